# Wide ResNet-50-2: inner layers of twice the width (Zagoruyko and Komodakis 2016, arXiv:1605.07146).
model = dict(
    backbone=dict(type='ResNet', depth=50, stem_channels=64, base_channels=128, expansion=2),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048))
