# Synaptic intelligence (Zenke et al. 2017, arXiv:1703.04200); si_lambda is the paper's c, here that of its sections
# 4.2 and 4.3. CLEAR's 1e-4 was for importances cut at 0.001.
# Optimiser and schedule are the CLEAR benchmark's for a linear layer on stored features; images want lr 0.01.
cl_strategy = dict(
    type='SynapticIntelligence', si_lambda=0.1,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=1.0, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
