# python tools/train.py configs/clear10/lwf_cosine_1x256-step-100e_moco-b0.py
"""Learning without forgetting, cosine classifier on the moco_b0 features of CLEAR-10."""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/cosine_2048.py', '../_base_/strategies/lwf.py',
          '../_base_/default_runtime.py']
