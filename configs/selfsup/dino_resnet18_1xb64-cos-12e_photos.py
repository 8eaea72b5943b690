_base_ = ['../_base_/models/selfsup/dino_resnet18-32px.py', '../_base_/datasets/photos_squares.py',
         '../_base_/schedules/adamw_cos_photos.py']

# With twice the rate the outputs became uniform.
optim_wrapper = dict(optimizer=dict(lr=5e-4))
