# BYOL (Grill et al. 2020, arXiv:2006.07733); momentum: that of 300 epochs.
model = dict(
    type='BYOL', backbone=dict(type='ResNet', depth=50, zero_init_residual=False),
    neck=dict(type='ProjectionMLP', in_channels=2048, hidden_channels=4096, out_channels=256, norm=True),
    predictor=dict(type='ProjectionMLP', in_channels=256, hidden_channels=4096, out_channels=256, norm=True),
    momentum=0.99, data_preprocessor=dict(type='ViewPreprocessor'))
