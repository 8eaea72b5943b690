# Continual prototype evolution (De Lange and Tuytelaars 2021, arXiv:2009.00919).
# For a model with trained features. The rates are ours and not tuned.
cl_strategy = dict(
    type='CoPE', mem_size=3300, p_size=100, alpha=0.99, T=0.1,
    train_mb_size=256, eval_mb_size=256, train_epochs=100,
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0),
    scheduler=dict(type='StepLR', step_size=60, gamma=0.1))
