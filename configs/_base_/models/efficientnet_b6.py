# EfficientNet-B6 (Tan and Le 2019, arXiv:1905.11946), published for images of 528 px.
model = dict(
    backbone=dict(type='EfficientNet', arch='b6'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2304))
