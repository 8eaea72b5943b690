# Meta-experience replay (Riemer et al. 2019, arXiv:1810.11910). One update a sample: slow, and a small batch.
# The rates are ours and not tuned.
cl_strategy = dict(
    type='MER', mem_size=3300, batch_size_mem=10, n_inner_steps=5, beta=0.1, gamma=0.1,
    train_mb_size=10, eval_mb_size=256, train_epochs=5,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=3, gamma=0.1),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
