# MoCo v2 (Chen et al. 2020, arXiv:2003.04297).
model = dict(
    type='MoCo', backbone=dict(type='ResNet', depth=50, zero_init_residual=False),
    neck=dict(type='ProjectionMLP', in_channels=2048, out_channels=128),
    queue_size=65536, momentum=0.999, temperature=0.2, data_preprocessor=dict(type='ViewPreprocessor'))
