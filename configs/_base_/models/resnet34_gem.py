# ResNet-34 (He et al. 2015, arXiv:1512.03385) with generalised mean pooling
# (Radenovic et al. 2017, arXiv:1711.02512).
model = dict(
    backbone=dict(type='ResNet', depth=34),
    neck=dict(type='GeneralizedMeanPooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=512))
