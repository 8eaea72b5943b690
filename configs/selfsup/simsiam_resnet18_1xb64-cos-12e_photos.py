# python tools/train.py configs/selfsup/simsiam_resnet18_1xb64-cos-12e_photos.py
# kNN, random then trained features, seed 0: 0.242 0.305 (docs/pretraining.md).
_base_ = ['../_base_/models/selfsup/simsiam_resnet18-32px.py', '../_base_/datasets/photos_squares.py',
         '../_base_/schedules/adamw_cos_photos.py']

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(predictor=dict(fix_lr=True))))
