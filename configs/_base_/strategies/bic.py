# Bias correction (Wu et al. 2019, arXiv:1905.13260). For class-incremental streams.
# For a model with trained features. The rates are ours and not tuned.
cl_strategy = dict(
    type='BiC', mem_size=2000, val_percentage=0.1, stage_2_epochs=200,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
