# Maximally interfered retrieval (Aljundi et al. 2019, arXiv:1908.04742).
# Optimiser and schedule are the CLEAR benchmark's for a linear layer on stored features; images want lr 0.01.
cl_strategy = dict(
    type='MIR', mem_size=3300, batch_size_mem=256, subsample=512,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=1.0, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
