# ShuffleNetV2 1x (Ma et al. 2018, arXiv:1807.11164).
model = dict(
    backbone=dict(type='ShuffleNetV2', widen_factor=1.0),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=1024))
