# Below ten minutes on one CPU core for 5,000 photographs.
optim_wrapper = dict(constructor='AlignmentOptimConstructor', paramwise_cfg=dict(),
                     optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.05))
param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
                   dict(type='CosineAnnealingLR', by_epoch=True, begin=1, end=10, T_max=9, convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=10)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=10, max_keep=1))
seed = 0
threads = 1
