# ResNet-50 (He et al. 2015, arXiv:1512.03385) with a linear head, for the 11 classes of CLEAR-10.
model = dict(
    backbone=dict(type='ResNet', depth=50),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=11, in_channels=2048))
