# python tools/train.py configs/fewshot/prototypeplus_cosine_clear100-1shot-moco-b0.py
"""Class means of all buckets so far, cosine classifier, 1-shot CLEAR-100 as moco_b0 features."""
_base_ = ['../_base_/scenarios/clear100_moco-b0.py', '../_base_/models/cosine_2048.py',
          '../_base_/strategies/prototype_plus.py', '../_base_/default_runtime.py']

scenario = dict(shot=1)
model = dict(head=dict(num_classes=100))
cl_strategy = dict(shot=1)
