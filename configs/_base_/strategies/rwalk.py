# Riemannian walk (Chaudhry et al. 2018, arXiv:1801.10112).
# Optimiser and schedule are the CLEAR benchmark's for a linear layer on stored features; images want lr 0.01.
cl_strategy = dict(
    type='Naive', plugins=[dict(type='RWalkPlugin', ewc_lambda=0.1, ewc_alpha=0.9, delta_t=10)],
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=1.0, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
