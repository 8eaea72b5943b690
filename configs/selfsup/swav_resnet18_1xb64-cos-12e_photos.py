_base_ = ['../_base_/models/selfsup/swav_resnet18-32px.py', '../_base_/datasets/photos_squares.py',
         '../_base_/schedules/adamw_cos_photos.py']
