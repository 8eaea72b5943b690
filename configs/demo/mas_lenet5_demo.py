# python tools/train.py configs/demo/mas_lenet5_demo.py
# Seed 0: in_domain 0.957, next_domain 0.915, backward_transfer 0.845, forward_transfer 0.650, forgetting 0.217.
# Test accuracy of all buckets after the last, seeds 0, 1, 2: 0.762 0.775 0.789 (docs/continual_learning.md).
_base_ = ['../_base_/scenarios/demo.py', '../_base_/models/lenet5_demo.py', '../_base_/strategies/mas.py',
          '../_base_/default_runtime.py']

# Sized for two CPU cores; values are ours, lambda_reg by sweep on a part of the training images
# (docs/continual_learning.md).
threads = 1
cl_strategy = dict(
    lambda_reg=0.1, train_mb_size=64, train_epochs=5,
    optimizer=dict(lr=0.05), scheduler=dict(step_size=4))
