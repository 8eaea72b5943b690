# ITRA's and open_clip's: lr 5e-4 for 512 pairs, weight decay 0.05, 2000 steps of warm-up, then a cosine, step by step.
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.05),
                     constructor='AlignmentOptimConstructor', paramwise_cfg=dict())
param_scheduler = [dict(type='WarmupCosineLR', warmup=2000, by_epoch=True, T_max=32, convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=32)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep=2))
amp = True
seed = 0
