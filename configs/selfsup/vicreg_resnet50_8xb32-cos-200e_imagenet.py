# bash tools/dist_train.sh configs/selfsup/vicreg_resnet50_8xb32-cos-200e_imagenet.py 8
_base_ = ['../_base_/models/selfsup/vicreg_resnet50.py', '../_base_/datasets/imagenet_views.py',
         '../_base_/schedules/lars_cos_warm10_200e.py']

# The authors' code has the views of BYOL (their paper blurs half of either view and solarises a tenth); lr 0.2 per
# 256 images, down to a thousandth.
train_dataloader = dict(dataset=dict(transform=dict(recipe='byol')))
optim_wrapper = dict(optimizer=dict(lr=0.2, weight_decay=1e-6))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=190, eta_min_ratio=1e-3, by_epoch=True, begin=10, end=200,
         convert_to_iter_based=True)]
sync_bn = True
