# ResNet-34 (He et al. 2015, arXiv:1512.03385).
model = dict(
    backbone=dict(type='ResNet', depth=34),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=512))
