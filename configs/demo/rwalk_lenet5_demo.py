# python tools/train.py configs/demo/rwalk_lenet5_demo.py
# Seed 0: in_domain 0.949, next_domain 0.909, backward_transfer 0.860, forward_transfer 0.642, forgetting 0.191.
# Test accuracy of all buckets after the last, seeds 0, 1, 2: 0.778 0.799 0.776 (docs/continual_learning.md).
_base_ = ['../_base_/scenarios/demo.py', '../_base_/models/lenet5_demo.py', '../_base_/strategies/rwalk.py',
          '../_base_/default_runtime.py']

# Sized for two CPU cores; values are ours, ewc_lambda by sweep on a part of the training images
# (docs/continual_learning.md).
threads = 1
cl_strategy = dict(
    plugins=[dict(type='RWalkPlugin', ewc_lambda=10.0, ewc_alpha=0.9, delta_t=10)], train_mb_size=64, train_epochs=5,
    optimizer=dict(lr=0.05), scheduler=dict(step_size=4))
