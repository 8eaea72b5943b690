# ConvNeXt-base (Liu et al. 2022, arXiv:2201.03545); the backbone averages its last map itself.
model = dict(
    backbone=dict(type='ConvNeXt', arch='base', drop_path_rate=0.5),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=1024),
    init_cfg=dict(type='TruncNormal', layer=['Conv2d', 'Linear'], std=0.02, bias=0.0))
