# ConvMixer-768/32 with ReLU (Trockman and Kolter 2022, arXiv:2201.09792).
model = dict(
    backbone=dict(type='ConvMixer', arch='768/32', act_cfg=dict(type='ReLU')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=768))
