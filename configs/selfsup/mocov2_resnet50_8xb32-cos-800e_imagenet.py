# bash tools/dist_train.sh configs/selfsup/mocov2_resnet50_8xb32-cos-800e_imagenet.py 8
_base_ = ['./mocov2_resnet50_8xb32-cos-200e_imagenet.py']

# Published: 71.1 % linear top-1 on ImageNet.
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=800)]
train_cfg = dict(max_epochs=800)
