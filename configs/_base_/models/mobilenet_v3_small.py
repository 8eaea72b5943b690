# MobileNetV3-small (Howard et al. 2019, arXiv:1905.02244).
model = dict(
    backbone=dict(type='MobileNetV3', arch='small'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='StackedLinearClsHead', num_classes=1000, in_channels=576, mid_channels=[1024], dropout_rate=0.2,
        act_cfg=dict(type='HSwish')))
