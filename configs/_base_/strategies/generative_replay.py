# Deep generative replay (Shin et al. 2017, arXiv:1705.08690). shape is that of a sample: here moco_b0 features.
# Optimiser and schedule are the CLEAR benchmark's for a linear layer on stored features; images want lr 0.01.
cl_strategy = dict(
    type='GenerativeReplay',
    generator=dict(shape=[2048], latent_dim=64, hidden=512), generator_epochs=10, generator_lr=1e-3,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=1.0, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
