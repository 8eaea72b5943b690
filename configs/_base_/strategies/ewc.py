# Elastic weight consolidation (Kirkpatrick et al. 2017, arXiv:1612.00796), online form (arXiv:1805.06370).
# lambda and decay are the CLEAR benchmark's, for the Fisher information of batches; ewc_sample.py has the paper's.
# Optimiser and schedule are the CLEAR benchmark's for a linear layer on stored features; images want lr 0.01.
cl_strategy = dict(
    type='EWC', fisher='batch', ewc_lambda=0.4, mode='online', decay_factor=0.1,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=1.0, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
