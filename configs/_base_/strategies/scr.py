# Supervised contrastive replay (Mai et al. 2021, arXiv:2103.13885). Images want augmentations.
# For a model with trained features. The rates are ours and not tuned.
cl_strategy = dict(
    type='SCR', mem_size=3300, batch_size_mem=256, temperature=0.1, projection_dim=128,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1))
