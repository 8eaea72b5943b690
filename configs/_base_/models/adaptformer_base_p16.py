# AdaptFormer (Chen et al. 2022, arXiv:2205.13535): adapters of width 64 beside the MLPs of a frozen ViT-base of
# 16 px patches.
# Give its weights with load_from; without them the frozen part is random.
model = dict(
    backbone=dict(type='AdaptFormer', arch='base', img_size=224, patch_size=16),
    head=dict(type='VisionTransformerClsHead', num_classes=1000, in_channels=768))
# All but adapters and head. A stage's name stands for everything in it.
frozen = [
    'backbone.patch_embed', 'backbone.cls_token', 'backbone.pos_embed', 'backbone.ln1', 'backbone.layers.*.ln?',
    'backbone.layers.*.attn', 'backbone.layers.*.ffn']
