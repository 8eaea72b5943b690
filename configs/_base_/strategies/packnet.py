# PackNet (Mallya and Lazebnik 2018, arXiv:1711.05769); the newest weights answer. No weight decay, no normalisation.
# The rates are ours and not tuned.
cl_strategy = dict(
    type='PackNet', post_prune_epochs=30, prune_proportion=0.75,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
