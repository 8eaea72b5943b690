# AR1* with latent replay (Pellegrini et al. 2020, arXiv:1912.01100).
# The rates are ours and not tuned.
cl_strategy = dict(
    type='AR1', rm_sz=3300, ewc_lambda=0.0,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
