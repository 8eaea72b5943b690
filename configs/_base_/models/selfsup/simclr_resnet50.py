# SimCLR (Chen et al. 2020, arXiv:2002.05709); like the authors' code with BatchNorm after the last layer as well.
model = dict(
    type='SimCLR', backbone=dict(type='ResNet', depth=50),
    neck=dict(type='ProjectionMLP', in_channels=2048, hidden_channels=2048, out_channels=128, norm=True,
              last_norm=True, last_bias=False),
    temperature=0.1, data_preprocessor=dict(type='ViewPreprocessor'))
