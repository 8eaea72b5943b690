# python tools/train.py configs/demo/lfl_lenet5_split-digits.py
# Test accuracy of all buckets after the last, seeds 0, 1, 2: 0.451 0.477 0.455 (docs/continual_learning.md).
_base_ = ['../_base_/scenarios/split_digits.py', '../_base_/models/lenet5_demo.py', '../_base_/strategies/lfl.py',
          '../_base_/default_runtime.py']

# Sized for two CPU cores; values are ours, lambda_e and lr by sweep on a part of the training images
# (docs/continual_learning.md). Cross-entropy over all classes: over those of the experience alone, LFL, whose head
# is frozen after the first experience, held less.
threads = 1
cl_strategy = dict(
    lambda_e=1.0,
    train_mb_size=64, train_epochs=4, optimizer=dict(lr=0.03), scheduler=dict(step_size=3))
