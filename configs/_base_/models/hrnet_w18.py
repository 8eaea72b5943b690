# HRNet-W18 (Wang et al. 2019, arXiv:1908.07919): the four resolutions are fused into 2048 channels.
model = dict(
    backbone=dict(type='HRNet', arch='w18'),
    neck=[dict(type='HRFuseScales', in_channels=(18, 36, 72, 144)), dict(type='GlobalAveragePooling')],
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048))
