# python tools/train.py configs/clear10/naive_linear_1x256-step-100e_efficientnet-lite0.py
"""Fine-tuning a linear classifier on ImageNet EfficientNet-Lite0 features of CLEAR-10, which are made on first use."""
_base_ = ['../_base_/scenarios/clear10.py', '../_base_/strategies/naive.py', '../_base_/default_runtime.py']

# Optimiser as for moco_b0, whose features have another scale: lr 0.1 is ours, not tuned.
scenario = dict(train_transform=None, eval_transform=None, feature=dict(
    encoder=dict(type='TimmEncoder', arch='tf_efficientnet_lite0', weights='package:efficientnet-lite0',
                 preprocess=dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]))))
model = dict(head=dict(type='LinearClsHead', num_classes=11, in_channels=1280))
cl_strategy = dict(optimizer=dict(lr=0.1))
