# FAN-ViT-tiny (Zhou et al. 2022, arXiv:2204.12451).
model = dict(
    backbone=dict(type='FAN', arch='tiny'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=192))
