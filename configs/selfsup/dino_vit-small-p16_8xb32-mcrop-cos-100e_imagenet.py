# bash tools/dist_train.sh configs/selfsup/dino_vit-small-p16_8xb32-mcrop-cos-100e_imagenet.py 8
_base_ = ['../_base_/models/selfsup/dino_resnet50.py', '../_base_/datasets/imagenet_views.py',
         '../_base_/schedules/sgd_cos_200e.py']

# The paper's main network. AdamW, lr 0.0005 per 256 images, weight decay from 0.04 to 0.4 along a cosine,
# the gradient of each parameter bounded by itself at a norm of 3.
model = dict(
    backbone=dict(_delete_=True, type='VisionTransformer', arch='deit-small', img_size=224, patch_size=16,
                  out_type='cls_token', interpolate_mode='bicubic', drop_path_rate=0.1),
    neck=dict(in_channels=384, norm=False))
train_dataloader = dict(dataset=dict(transform=dict(recipe='dino')))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=5e-4, weight_decay=0.04),
    clip_grad=dict(type='norm_per_parameter', max_norm=3.0),
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=90, eta_min=1e-6, by_epoch=True, begin=10, end=100,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingParamScheduler', param_name='weight_decay', eta_min=0.4, T_max=100, by_epoch=True,
         convert_to_iter_based=True)]
train_cfg = dict(max_epochs=100)
