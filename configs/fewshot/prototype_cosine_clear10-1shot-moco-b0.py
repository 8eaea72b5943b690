# python tools/train.py configs/fewshot/prototype_cosine_clear10-1shot-moco-b0.py
"""Class means of the current bucket, cosine classifier, 1-shot CLEAR-10 as moco_b0 features."""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/cosine_2048.py',
          '../_base_/strategies/prototype.py', '../_base_/default_runtime.py']

scenario = dict(shot=1)
cl_strategy = dict(shot=1)
