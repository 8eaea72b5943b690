_base_ = ['../_base_/scenarios/demo.py', '../_base_/models/lenet5_demo.py', '../_base_/strategies/si.py',
          '../_base_/default_runtime.py']

# Sized for two CPU cores; values are ours, found on the demo stream.
# 1000 holds more of the past and learns less of the present, 100 the reverse.
threads = 1
cl_strategy = dict(
    si_lambda=500.0, train_mb_size=64, train_epochs=5, optimizer=dict(lr=0.05), scheduler=dict(step_size=4))
