# T2T-ViT-24, for images of 224 px (Yuan et al. 2021, arXiv:2101.11986).
model = dict(
    backbone=dict(
        type='T2T_ViT', img_size=224, embed_dims=512, num_layers=24, drop_path_rate=0.1,
        t2t_cfg=dict(token_dims=64, use_performer=False),
        layer_cfgs=dict(num_heads=8, feedforward_channels=1536)),
    head=dict(type='VisionTransformerClsHead', num_classes=1000, in_channels=512),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0)])
