# TNT-S, patches of 16 px, for images of 224 px (Han et al. 2021, arXiv:2103.00112).
model = dict(
    backbone=dict(type='TNT', arch='s', img_size=224, patch_size=16, drop_path_rate=0.1),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=384),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0)])
