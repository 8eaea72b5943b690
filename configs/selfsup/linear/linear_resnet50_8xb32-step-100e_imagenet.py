# bash tools/dist_train.sh configs/selfsup/linear/linear_resnet50_8xb32-step-100e_imagenet.py 8
_base_ = ['../../_base_/datasets/imagenet_linear.py', '../../_base_/schedules/linear_100e.py']

# MoCo's linear evaluation (He et al. 2020, arXiv:1911.05722; its published code): lr 30 for a total batch of 256.
model = dict(
    type='ImageClassifier',
    # All stages frozen, and every BatchNorm in eval mode while the layer is trained.
    backbone=dict(type='ResNet', depth=50, frozen_stages=4, norm_eval=True),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048,
              loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
              init_cfg=dict(type='Normal', layer='Linear', mean=0.0, std=0.01, bias=0.0)),
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True))
# Names of torchvision, of MoCo's files or of our own pretraining; every tensor of the backbone must be there.
load_from = dict(path='weights/moco_v2.pth', min_matched=1.0)

param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[60, 80], gamma=0.1)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1))
seed = 0
