# python tools/train.py configs/fewshot/naive_cosine_1x256-step-100e_clear10-5shot-intern-r50.py
"""Fine-tuning, cosine classifier, 5-shot CLEAR-10 as intern_r50 features."""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/cosine_2048.py',
          '../_base_/strategies/naive.py', '../_base_/default_runtime.py']

scenario = dict(feature_type='intern_r50', shot=5)
