# python tools/train.py configs/selfsup/simclr_resnet18_1xb64-cos-12e_photos.py
# kNN, random then trained features, seed 0: 0.226 0.418 (docs/pretraining.md).
_base_ = ['../_base_/models/selfsup/simclr_resnet18-32px.py', '../_base_/datasets/photos_squares.py',
         '../_base_/schedules/sgd_cos_photos.py']
