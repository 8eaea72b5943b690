# python tools/train.py configs/selfsup/mocov2_resnet18_1xb64-cos-12e_photos.py
# kNN, random then trained features, seeds 0, 1 and 2: 0.247 0.341, 0.221 0.306, 0.236 0.330 (docs/pretraining.md).
_base_ = ['../_base_/models/selfsup/mocov2_resnet18-32px.py', '../_base_/datasets/photos_squares.py',
         '../_base_/schedules/sgd_cos_photos.py']
