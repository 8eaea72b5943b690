# bash tools/dist_train.sh configs/selfsup/simsiam_resnet50_8xb32-cos-100e_imagenet.py 8
_base_ = ['../_base_/models/selfsup/simsiam_resnet50.py', '../_base_/datasets/imagenet_views.py',
         '../_base_/schedules/sgd_cos_200e.py']

# The views of MoCo v2; the predictor keeps its rate. Published: 68.1 % linear top-1 on ImageNet.
train_dataloader = dict(dataset=dict(transform=dict(recipe='moco_v2')))
optim_wrapper = dict(optimizer=dict(lr=0.05), paramwise_cfg=dict(custom_keys=dict(predictor=dict(fix_lr=True))))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=100)]
train_cfg = dict(max_epochs=100)
sync_bn = True
