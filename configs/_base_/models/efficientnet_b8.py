# EfficientNet-B8 (Xie et al. 2019, arXiv:1911.09665), published for images of 672 px.
model = dict(
    backbone=dict(type='EfficientNet', arch='b8'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2816))
