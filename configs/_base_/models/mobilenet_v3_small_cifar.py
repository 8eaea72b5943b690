# MobileNetV3-small, for the 10 classes of CIFAR (Howard et al. 2019, arXiv:1905.02244).
model = dict(
    backbone=dict(type='MobileNetV3', arch='small'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='StackedLinearClsHead', num_classes=10, in_channels=576, mid_channels=[1280],
        act_cfg=dict(type='HSwish')))
