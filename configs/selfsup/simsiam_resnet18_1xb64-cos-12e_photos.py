_base_ = ['../_base_/models/selfsup/simsiam_resnet18-32px.py', '../_base_/datasets/photos_squares.py',
         '../_base_/schedules/adamw_cos_photos.py']

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(predictor=dict(fix_lr=True))))
