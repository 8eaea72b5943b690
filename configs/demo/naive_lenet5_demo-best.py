# python tools/train.py configs/demo/naive_lenet5_demo-best.py
_base_ = ['../_base_/scenarios/demo.py', '../_base_/models/lenet5_demo.py', '../_base_/strategies/naive.py',
          '../_base_/default_runtime.py']

# Sized for two CPU cores; values are ours, found on the demo stream.
# The best epoch of each bucket by the loss on a tenth of it, which is not trained on (accuracies of so few tie).
threads = 1
cl_strategy = dict(
    plugins=[dict(type='LoadBest', metric='loss', split='val', val_ratio=0.1)],
    train_mb_size=64, train_epochs=4, optimizer=dict(lr=0.05), scheduler=dict(step_size=3))
