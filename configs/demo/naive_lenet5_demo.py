# python tools/train.py configs/demo/naive_lenet5_demo.py
# Seed 0: in_domain 0.973, next_domain 0.956, backward_transfer 0.808, forward_transfer 0.693, forgetting 0.279.
# Test accuracy of all buckets after the last, seeds 0, 1, 2: 0.722 0.728 0.736 (docs/continual_learning.md).
_base_ = ['../_base_/scenarios/demo.py', '../_base_/models/lenet5_demo.py', '../_base_/strategies/naive.py',
          '../_base_/default_runtime.py']

# Sized for two CPU cores; values are ours, found on the demo stream.
threads = 1
cl_strategy = dict(
    train_mb_size=64, train_epochs=4, optimizer=dict(lr=0.05), scheduler=dict(step_size=3))
