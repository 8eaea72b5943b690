# MoCo v1 (He et al. 2020, arXiv:1911.05722).
model = dict(
    type='MoCo', backbone=dict(type='ResNet', depth=50, zero_init_residual=False),
    neck=dict(type='ProjectionMLP', in_channels=2048, out_channels=128, num_layers=1),
    queue_size=65536, momentum=0.999, temperature=0.07, data_preprocessor=dict(type='ViewPreprocessor'))
