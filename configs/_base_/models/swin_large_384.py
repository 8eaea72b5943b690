# Swin-large, for images of 384 px (Liu et al. 2021, arXiv:2103.14030).
model = dict(
    backbone=dict(
        type='SwinTransformer', arch='large', img_size=384, stage_cfgs=dict(block_cfgs=dict(window_size=12))),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=1536),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0)])
