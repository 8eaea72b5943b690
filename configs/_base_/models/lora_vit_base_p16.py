# LoRA (Hu et al. 2021, arXiv:2106.09685) of rank 8 in the attention of a frozen ViT-base. Only these changes and the
# head train. Give the weights of the ViT-base with load_from; without them the frozen part is random.
model = dict(
    backbone=dict(
        type='LoRA', rank=8, alpha=16, targets=['qkv'],
        backbone=dict(type='VisionTransformer', arch='base', img_size=224, patch_size=16)),
    head=dict(type='VisionTransformerClsHead', num_classes=1000, in_channels=768))
