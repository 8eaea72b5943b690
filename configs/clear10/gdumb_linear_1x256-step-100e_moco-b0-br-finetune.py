# python tools/train.py configs/clear10/gdumb_linear_1x256-step-100e_moco-b0-br-finetune.py
"""Fine-tuning by a biased reservoir, linear on the moco_b0 features of CLEAR-10.

Every new sample enters a memory of one bucket, so expect what naive gives.
"""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/linear_2048.py',
          '../_base_/strategies/biased_reservoir.py', '../_base_/default_runtime.py']

# 70 % of the 3300 images of a bucket are for training: what is larger would keep some of the past.
cl_strategy = dict(buffer=dict(max_size=2310))
