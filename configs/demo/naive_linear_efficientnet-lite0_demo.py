# python tools/train.py configs/demo/naive_linear_efficientnet-lite0_demo.py
_base_ = ['../_base_/scenarios/demo.py', '../_base_/strategies/naive.py',
          '../_base_/default_runtime.py']

# Digits are 8 x 8 pixels: 64 are enough and cost a twelfth of 224 (ours). Needs the extra [pretrained].
threads = 1
scenario = dict(train_transform=None, eval_transform=None, cache=None, feature=dict(
    encoder=dict(type='TimmEncoder', arch='tf_efficientnet_lite0', weights='package:efficientnet-lite0',
                 preprocess=dict(resize=64, crop=64, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]))))
model = dict(head=dict(type='LinearClsHead', num_classes=10, in_channels=1280))
cl_strategy = dict(train_mb_size=64, train_epochs=10, optimizer=dict(lr=0.1), scheduler=dict(step_size=8))
