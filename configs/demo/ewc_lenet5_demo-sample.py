# python tools/train.py configs/demo/ewc_lenet5_demo-sample.py
# Test accuracy of all buckets after the last, seeds 0, 1, 2: 0.745 0.738 0.765 (docs/continual_learning.md).
_base_ = ['../_base_/scenarios/demo.py', '../_base_/models/lenet5_demo.py', '../_base_/strategies/ewc_sample.py',
          '../_base_/default_runtime.py']

# Sized for two CPU cores; values are ours, found on the demo stream.
threads = 1
cl_strategy = dict(
    ewc_lambda=50.0, decay_factor=0.9, train_mb_size=64, train_epochs=5,
    optimizer=dict(lr=0.05), scheduler=dict(step_size=4))
