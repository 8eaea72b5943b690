# MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381).
model = dict(
    backbone=dict(type='MobileNetV2', widen_factor=1.0),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=1280))
