# Less-forgetting learning (Jung et al. 2016, arXiv:1607.00122).
# For a model with trained features. The rates are ours and not tuned.
cl_strategy = dict(
    type='LFL', lambda_e=1.0,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
