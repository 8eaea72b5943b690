# A few minutes on two CPU cores. fused: one pass over each tensor.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.06, momentum=0.9, weight_decay=5e-4, fused=True))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=4, convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=4)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep=1))
seed = 0
threads = 1
