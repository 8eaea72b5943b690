# ResNet-101-D: ResNet-C with average pooling in its shortcuts (He et al. 2018, arXiv:1812.01187).
model = dict(
    backbone=dict(type='ResNetV1d', depth=101),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048))
