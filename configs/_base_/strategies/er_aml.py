# Experience replay with asymmetric metric learning (Caccia et al. 2022, arXiv:2104.05025), its own loss.
# For a model with trained features. The rates are ours and not tuned.
cl_strategy = dict(
    type='ER_AML', mem_size=3300, batch_size_mem=256, temp=0.1, base_temp=0.07,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1))
