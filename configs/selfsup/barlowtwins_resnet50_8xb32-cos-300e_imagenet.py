# bash tools/dist_train.sh configs/selfsup/barlowtwins_resnet50_8xb32-cos-300e_imagenet.py 8
_base_ = ['../_base_/models/selfsup/barlowtwins_resnet50.py', '../_base_/datasets/imagenet_views.py',
         '../_base_/schedules/lars_cos_warm10_200e.py']

# The views of BYOL. lr per 256 images: 0.2 for weights, 0.0048 for biases and BatchNorm, both to a thousandth.
train_dataloader = dict(dataset=dict(transform=dict(recipe='byol')))
_plain = dict(decay_mult=0.0, lars_exclude=True, lr_mult=0.024)
optim_wrapper = dict(
    optimizer=dict(lr=0.2, weight_decay=1.5e-6),
    paramwise_cfg=dict(custom_keys={
        'bn': _plain, 'bias': _plain, 'downsample.1': _plain, 'neck.layers.1.': _plain, 'neck.layers.4.': _plain,
        'predictor.layers.1.': _plain}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=290, eta_min_ratio=1e-3, by_epoch=True, begin=10, end=300,
         convert_to_iter_based=True)]
train_cfg = dict(max_epochs=300)
sync_bn = True
