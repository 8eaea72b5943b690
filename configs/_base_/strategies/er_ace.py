# Experience replay with asymmetric cross-entropy (Caccia et al. 2022, arXiv:2104.05025), its own loss.
# Optimiser and schedule are the CLEAR benchmark's for a linear layer on stored features; images want lr 0.01.
cl_strategy = dict(
    type='ER_ACE', mem_size=3300, batch_size_mem=256,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=1.0, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1))
