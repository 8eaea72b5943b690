# The adapters of the earlier demo: LayerNorm behind them, a learned scale, not zero at the start; everything trains.
model = dict(
    backbone=dict(type='AdaptFormer', arch='base', img_size=224, patch_size=16, legacy=True),
    head=dict(type='VisionTransformerClsHead', num_classes=1000, in_channels=768))
