# python tools/train.py configs/fewshot/gdumb_cosine_1x256-step-100e_clear10-5shot-moco-b0-br-finetune.py
"""Fine-tuning by a biased reservoir, cosine classifier, 5-shot CLEAR-10 as moco_b0 features."""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/cosine_2048.py',
          '../_base_/strategies/biased_reservoir.py', '../_base_/default_runtime.py']

scenario = dict(shot=5)
# 5 of each of the 11 classes: the memory is the current bucket.
cl_strategy = dict(buffer=dict(max_size=55))
