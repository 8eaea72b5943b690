# python tools/train.py configs/demo/agem_lenet5_demo.py
# Seed 0: in_domain 0.975, next_domain 0.956, backward_transfer 0.891, forward_transfer 0.694, forgetting 0.151.
_base_ = ['../_base_/scenarios/demo.py', '../_base_/models/lenet5_demo.py', '../_base_/strategies/agem.py',
          '../_base_/default_runtime.py']

# Sized for two CPU cores; values are ours, found on the demo stream.
threads = 1
cl_strategy = dict(
    patterns_per_exp=60, sample_size=120, train_mb_size=64, train_epochs=5,
    optimizer=dict(lr=0.05), scheduler=dict(step_size=4))
