# python tools/train.py configs/demo/prototypeplus_cosine_resnet18-random_demo.py
_base_ = ['../_base_/scenarios/demo.py', '../_base_/strategies/prototype_plus.py', '../_base_/default_runtime.py']

# Features of a random ResNet-18: nothing has to be downloaded. The bank is made on first use, then found again.
# Sized for two CPU cores; values are ours.
threads = 1
scenario = dict(train_transform=None, eval_transform=None, cache=None, feature=dict(
    encoder=dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32))))
model = dict(head=dict(type='CosineDistanceHead', num_classes=10, in_channels=512, temperature=2.0))
