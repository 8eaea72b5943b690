# ResNet-101 (He et al. 2015, arXiv:1512.03385) with a 3x3 stem of stride 1, for 32 px and 10 classes.
model = dict(
    backbone=dict(type='ResNet_CIFAR', depth=101),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=2048))
