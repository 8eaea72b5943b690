# SE-ResNet-101 (Hu et al. 2017, arXiv:1709.01507).
model = dict(
    backbone=dict(type='SEResNet', depth=101),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048))
