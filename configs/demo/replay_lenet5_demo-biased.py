# python tools/train.py configs/demo/replay_lenet5_demo-biased.py
_base_ = ['../_base_/scenarios/demo.py', '../_base_/models/lenet5_demo.py', '../_base_/strategies/replay.py',
          '../_base_/default_runtime.py']

# Sized for two CPU cores; values are those of replay_lenet5_demo.py, with a memory that favours recent buckets.
threads = 1
cl_strategy = dict(
    mem_size=600, storage_policy=dict(type='BiasedReservoirSamplingBuffer', max_size=600, alpha_mode='Fixed',
                                      alpha_value=2.0),
    train_mb_size=64, train_epochs=4, optimizer=dict(lr=0.05), scheduler=dict(step_size=3))
