# python tools/train.py configs/fewshot/lwf_cosine_1x256-step-100e_clear10-5shot-intern-r50.py
"""Learning without forgetting, cosine classifier, 5-shot CLEAR-10 as intern_r50 features."""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/cosine_2048.py', '../_base_/strategies/lwf.py',
          '../_base_/default_runtime.py']

scenario = dict(feature_type='intern_r50', shot=5)
