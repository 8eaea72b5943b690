# Res2Net-50, 2 scales of width 48 (Gao et al. 2019, arXiv:1904.01169).
model = dict(
    backbone=dict(type='Res2Net', depth=50, scales=2, base_width=48, deep_stem=False, avg_down=False),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048))
