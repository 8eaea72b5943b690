# ShuffleNet 1x with 3 groups (Zhang et al. 2017, arXiv:1707.01083).
model = dict(
    backbone=dict(type='ShuffleNetV1', groups=3),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=960))
