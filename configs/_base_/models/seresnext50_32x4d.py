# SE-ResNeXt-50, 32 groups of width 4 (Hu et al. 2017, arXiv:1709.01507).
model = dict(
    backbone=dict(type='SEResNeXt', depth=50, groups=32, width_per_group=4, se_ratio=16),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048))
