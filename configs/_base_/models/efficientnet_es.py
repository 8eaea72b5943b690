# EfficientNet-EdgeTPU-small (Gupta and Akin 2020, arXiv:2003.02838), with ReLU.
model = dict(
    backbone=dict(type='EfficientNet', arch='es', act_cfg=dict(type='ReLU')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=1280))
