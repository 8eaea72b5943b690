# RegNetX-6.4GF (Radosavovic et al. 2020, arXiv:2003.13678).
model = dict(
    backbone=dict(type='RegNet', arch='regnetx_6.4gf'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=1624))
