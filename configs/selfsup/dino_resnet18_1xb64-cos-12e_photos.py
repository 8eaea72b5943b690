_base_ = ['../_base_/models/selfsup/dino_resnet18-32px.py', '../_base_/datasets/photos_squares.py',
         '../_base_/schedules/adamw_cos_photos.py']

param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=8, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=8)
