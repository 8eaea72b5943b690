# Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230).
model = dict(
    type='BarlowTwins', backbone=dict(type='ResNet', depth=50),
    neck=dict(type='ProjectionMLP', in_channels=2048, hidden_channels=8192, out_channels=8192, num_layers=3, norm=True,
              bias=False, last_bias=False),
    lambd=0.0051, data_preprocessor=dict(type='ViewPreprocessor'))
