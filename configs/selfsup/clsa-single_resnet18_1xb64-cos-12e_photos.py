# python tools/train.py configs/selfsup/clsa-single_resnet18_1xb64-cos-12e_photos.py
# kNN, random then trained features, seeds 0, 1 and 2: 0.247 0.315, 0.221 0.341, 0.236 0.341 (docs/pretraining.md).
_base_ = ['../_base_/models/selfsup/clsa-single_resnet18-32px.py', '../_base_/datasets/photos_squares.py',
         '../_base_/schedules/sgd_cos_photos.py']
