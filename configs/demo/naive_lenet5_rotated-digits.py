# python tools/train.py configs/demo/naive_lenet5_rotated-digits.py
_base_ = ['../_base_/scenarios/rotated_digits.py', '../_base_/models/lenet5_demo.py', '../_base_/strategies/naive.py',
          '../_base_/default_runtime.py']

# Sized for two CPU cores; values are ours.
threads = 1
cl_strategy = dict(
    train_mb_size=64, train_epochs=4, optimizer=dict(lr=0.05), scheduler=dict(step_size=3))
