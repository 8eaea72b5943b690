_base_ = ['../_base_/models/selfsup/dino_resnet50.py', '../_base_/datasets/imagenet_views.py',
         '../_base_/schedules/sgd_cos_200e.py']

# SGD, as for every convolutional network there; gradients are clipped at a norm of 3.
train_dataloader = dict(dataset=dict(transform=dict(recipe='dino')))
optim_wrapper = dict(clip_grad=dict(max_norm=3.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=90, by_epoch=True, begin=10, end=100, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=100)
