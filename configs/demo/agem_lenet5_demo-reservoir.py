# python tools/train.py configs/demo/agem_lenet5_demo-reservoir.py
_base_ = ['../_base_/scenarios/demo.py', '../_base_/models/lenet5_demo.py', '../_base_/strategies/agem_reservoir.py',
          '../_base_/default_runtime.py']

# Sized for two CPU cores; values are those of agem_lenet5_demo.py, with the memory that it ends with.
threads = 1
cl_strategy = dict(
    patterns_per_exp=600, sample_size=120, train_mb_size=64, train_epochs=5,
    optimizer=dict(lr=0.05), scheduler=dict(step_size=4))
