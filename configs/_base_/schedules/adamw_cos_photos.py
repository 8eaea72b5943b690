_base_ = ['./adamw_cos_demo.py']

# Below ten minutes on one CPU core for 5,000 images.
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=12, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=12)
