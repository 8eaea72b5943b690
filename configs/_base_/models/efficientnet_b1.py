# EfficientNet-B1 (Tan and Le 2019, arXiv:1905.11946), published for images of 240 px.
model = dict(
    backbone=dict(type='EfficientNet', arch='b1'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=1280))
