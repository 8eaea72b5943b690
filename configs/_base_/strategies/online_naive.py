# Fine-tuning, one pass over each bucket (Avalanche's old online template).
# Optimiser and schedule are the CLEAR benchmark's for a linear layer on stored features; images want lr 0.01.
cl_strategy = dict(
    type='OnlineNaive', train_passes=1,
    train_mb_size=256, eval_mb_size=256,
    optimizer=dict(type='SGD', lr=1.0, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=1, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
