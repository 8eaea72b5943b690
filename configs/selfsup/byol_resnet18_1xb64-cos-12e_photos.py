# python tools/train.py configs/selfsup/byol_resnet18_1xb64-cos-12e_photos.py
# kNN, random then trained features, seed 0: 0.223 0.306 (docs/pretraining.md).
_base_ = ['../_base_/models/selfsup/byol_resnet18-32px.py', '../_base_/datasets/photos_squares.py',
         '../_base_/schedules/adamw_cos_photos.py']
