# Memory-aware synapses (Aljundi et al. 2018, arXiv:1711.09601). lambda_reg is ours, for importances of single samples:
# at this rate the paper's 1 diverged on synthetic features of length 10, 0.1 trains.
# Optimiser and schedule are the CLEAR benchmark's for a linear layer on stored features; images want lr 0.01.
cl_strategy = dict(
    type='MAS', lambda_reg=0.1, alpha=0.5,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=1.0, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
