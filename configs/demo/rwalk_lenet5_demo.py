_base_ = ['../_base_/scenarios/demo.py', '../_base_/models/lenet5_demo.py', '../_base_/strategies/rwalk.py',
          '../_base_/default_runtime.py']

# Sized for two CPU cores; values are ours, ewc_lambda by sweep on a part of the training images
# (docs/continual_learning.md).
threads = 1
cl_strategy = dict(
    plugins=[dict(type='RWalkPlugin', ewc_lambda=10.0, ewc_alpha=0.9, delta_t=10)], train_mb_size=64, train_epochs=5,
    optimizer=dict(lr=0.05), scheduler=dict(step_size=4))
