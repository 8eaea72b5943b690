# ResNeXt-50, 32 groups of width 4 (Xie et al. 2016, arXiv:1611.05431).
model = dict(
    backbone=dict(type='ResNeXt', depth=50, groups=32, width_per_group=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048))
