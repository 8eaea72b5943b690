# python tools/train.py configs/demo/gdumb_lenet5_demo-reservoir.py
_base_ = ['../_base_/scenarios/demo.py', '../_base_/models/lenet5_demo.py', '../_base_/strategies/reservoir.py',
          '../_base_/default_runtime.py']

# Sized for two CPU cores; values are ours, found on the demo stream.
# 600 images are ten iterations: more epochs than the others, which see 1262 per bucket.
threads = 1
cl_strategy = dict(
    buffer=dict(max_size=600), train_mb_size=64, train_epochs=15, optimizer=dict(lr=0.05), scheduler=dict(step_size=12))
