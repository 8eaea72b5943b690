# python tools/train.py configs/selfsup/clsa-multi_resnet18_1xb64-cos-8e_photos.py
_base_ = ['../_base_/models/selfsup/clsa-multi_resnet18-32px.py', '../_base_/datasets/photos_squares.py',
         '../_base_/schedules/sgd_cos_photos.py']

param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=8, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=8)
