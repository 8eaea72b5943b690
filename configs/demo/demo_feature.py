# python tools/train.py configs/demo/demo_feature.py
"""The feature example of the earlier CLEAR demo: a linear layer on moco_b0 features, AdamW, streaming protocol."""
_base_ = ['../clear10/naive_linear_1x256-const-10e_moco-b0-adamw-streaming.py']
