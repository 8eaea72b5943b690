# python tools/train.py configs/demo/lfl_lenet5_demo.py
# Seed 0: in_domain 0.926, next_domain 0.822, backward_transfer 0.948, forward_transfer 0.584, forgetting 0.009.
# Test accuracy of all buckets after the last, seeds 0, 1, 2: 0.918 0.922 0.937 (docs/continual_learning.md).
_base_ = ['../_base_/scenarios/demo.py', '../_base_/models/lenet5_demo.py', '../_base_/strategies/lfl.py',
          '../_base_/default_runtime.py']

# Sized for two CPU cores; values are ours, lambda_e by sweep on a part of the training images
# (docs/continual_learning.md).
threads = 1
cl_strategy = dict(
    lambda_e=30.0, train_mb_size=64, train_epochs=5,
    optimizer=dict(lr=0.05), scheduler=dict(step_size=4))
