# PoolFormer-S12 (Yu et al. 2021, arXiv:2111.11418).
model = dict(
    backbone=dict(type='PoolFormer', arch='s12', drop_path_rate=0.1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=512),
    init_cfg=dict(type='TruncNormal', layer=['Conv2d', 'Linear'], std=0.02, bias=0.0))
