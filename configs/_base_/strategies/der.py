# Dark experience replay (Buzzega et al. 2020, arXiv:2004.07211).
# The rates are ours and not tuned.
cl_strategy = dict(
    type='DER', mem_size=3300, batch_size_mem=256, alpha=0.1, beta=0.5,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
