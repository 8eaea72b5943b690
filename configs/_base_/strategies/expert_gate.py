# Expert Gate (Aljundi et al. 2017, arXiv:1611.06194).
# The rates are ours and not tuned.
cl_strategy = dict(
    type='ExpertGateStrategy', ae_train_mb_size=64, ae_train_epochs=2, ae_lr=1e-3, rel_thresh=0.85,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
