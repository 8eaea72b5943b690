# VICReg (Bardes et al. 2022, arXiv:2105.04906).
model = dict(
    type='VICReg', backbone=dict(type='ResNet', depth=50),
    neck=dict(type='ProjectionMLP', in_channels=2048, hidden_channels=8192, out_channels=8192, num_layers=3, norm=True,
              bias=False, last_bias=False),
    invariance=25.0, variance=25.0, covariance=1.0, data_preprocessor=dict(type='ViewPreprocessor'))
