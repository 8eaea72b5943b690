# ResNet-50-C: a stem of three 3x3 convolutions (He et al. 2018, arXiv:1812.01187).
model = dict(
    backbone=dict(type='ResNetV1c', depth=50),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048))
