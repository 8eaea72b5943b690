# ViT-large, patches of 16 px, for images of 224 px (Dosovitskiy et al. 2020, arXiv:2010.11929).
model = dict(
    backbone=dict(type='VisionTransformer', arch='large', img_size=224, patch_size=16, drop_rate=0.1),
    head=dict(type='VisionTransformerClsHead', num_classes=1000, in_channels=1024))
