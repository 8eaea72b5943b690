# SimSiam (Chen and He 2021, arXiv:2011.10566).
model = dict(
    type='SimSiam', backbone=dict(type='ResNet', depth=50),
    neck=dict(type='ProjectionMLP', in_channels=2048, hidden_channels=2048, out_channels=2048, num_layers=3, norm=True,
              last_norm=True, last_affine=False, bias=False, last_bias=False),
    predictor=dict(type='ProjectionMLP', in_channels=2048, hidden_channels=512, out_channels=2048, norm=True,
                   bias=False),
    data_preprocessor=dict(type='ViewPreprocessor'))
