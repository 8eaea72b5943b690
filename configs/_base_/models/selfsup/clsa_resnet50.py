# CLSA (Wang and Qi 2021, arXiv:2104.07713), single crop: one weak view, one strong view.
model = dict(
    type='CLSA', backbone=dict(type='ResNet', depth=50, zero_init_residual=False),
    neck=dict(type='ProjectionMLP', in_channels=2048, out_channels=128),
    queue_size=65536, momentum=0.999, temperature=0.2, clsa_t=0.2, alpha=1.0, num_weak=1, num_strong=1,
    data_preprocessor=dict(type='ViewPreprocessor'))
