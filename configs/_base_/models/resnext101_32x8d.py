# ResNeXt-101, 32 groups of width 8 (Xie et al. 2016, arXiv:1611.05431).
model = dict(
    backbone=dict(type='ResNeXt', depth=101, groups=32, width_per_group=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048))
