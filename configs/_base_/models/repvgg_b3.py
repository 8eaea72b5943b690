# RepVGG-B3 in its form for training (Ding et al. 2021, arXiv:2101.03697).
model = dict(
    backbone=dict(type='RepVGG', arch='B3', out_indices=(3,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2560))
