# As reservoir.py, with recent buckets favoured (Lin et al. 2021, arXiv:2201.06289); alpha 1 is the current bucket only.
# Optimiser and schedule are the CLEAR benchmark's for a linear layer on stored features; images want lr 0.01.
cl_strategy = dict(
    type='GDumb', reset=False,
    buffer=dict(type='BiasedReservoirSamplingBuffer', max_size=3300, alpha_mode='Dynamic', alpha_value=1.0),
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=1.0, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
