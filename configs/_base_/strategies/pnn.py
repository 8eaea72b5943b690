# Progressive networks (Rusu et al. 2016, arXiv:1606.04671) on features; the newest column answers.
# The rates are ours and not tuned.
cl_strategy = dict(
    type='PNNStrategy', num_layers=1, hidden_features_per_column=100,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
