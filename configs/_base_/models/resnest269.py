# ResNeSt-269 (Zhang et al. 2020, arXiv:2004.08955).
model = dict(
    backbone=dict(type='ResNeSt', depth=269, stem_channels=128),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048))
