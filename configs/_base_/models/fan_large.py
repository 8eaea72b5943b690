# FAN-ViT-large (Zhou et al. 2022, arXiv:2204.12451).
model = dict(
    backbone=dict(type='FAN', arch='large'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=480))
