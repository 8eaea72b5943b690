# FAN-ViT-xlarge (Zhou et al. 2022, arXiv:2204.12451). Its width is ours to guess, see clear/models/backbones/fan.py.
model = dict(
    backbone=dict(type='FAN', arch='xlarge'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=528))
