# SwAV (Caron et al. 2020, arXiv:2006.09882), with the queue of its recipe for small batches.
model = dict(
    type='SwAV', backbone=dict(type='ResNet', depth=50, zero_init_residual=False),
    neck=dict(type='ProjectionMLP', in_channels=2048, hidden_channels=2048, out_channels=128, norm=True),
    num_prototypes=3000, temperature=0.1, epsilon=0.05, sinkhorn_iterations=3, queue_size=3840, queue_start_epoch=15,
    data_preprocessor=dict(type='ViewPreprocessor'))
