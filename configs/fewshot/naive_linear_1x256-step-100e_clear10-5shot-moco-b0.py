# python tools/train.py configs/fewshot/naive_linear_1x256-step-100e_clear10-5shot-moco-b0.py
"""Fine-tuning, linear classifier, 5-shot CLEAR-10 as moco_b0 features."""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/linear_2048.py',
          '../_base_/strategies/naive.py', '../_base_/default_runtime.py']

scenario = dict(shot=5)
