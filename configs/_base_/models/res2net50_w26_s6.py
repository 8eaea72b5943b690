# Res2Net-50, 6 scales of width 26 (Gao et al. 2019, arXiv:1904.01169).
model = dict(
    backbone=dict(type='Res2Net', depth=50, scales=6, base_width=26, deep_stem=False, avg_down=False),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048))
