# ConvMixer-1536/20 (Trockman and Kolter 2022, arXiv:2201.09792).
model = dict(
    backbone=dict(type='ConvMixer', arch='1536/20'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=1536))
