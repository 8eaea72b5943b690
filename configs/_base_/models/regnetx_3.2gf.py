# RegNetX-3.2GF (Radosavovic et al. 2020, arXiv:2003.13678).
model = dict(
    backbone=dict(type='RegNet', arch='regnetx_3.2gf'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=1008))
