# La-MAML (Gupta et al. 2020, arXiv:2007.13904) without a memory.
# The rates are ours and not tuned.
cl_strategy = dict(
    type='LaMAMLHigher', n_inner_updates=5, train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
