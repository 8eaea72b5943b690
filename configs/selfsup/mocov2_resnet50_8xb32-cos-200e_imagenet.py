# bash tools/dist_train.sh configs/selfsup/mocov2_resnet50_8xb32-cos-200e_imagenet.py 8
_base_ = ['../_base_/models/selfsup/mocov2_resnet50.py', '../_base_/datasets/imagenet_views.py',
         '../_base_/schedules/sgd_cos_200e.py']

# Published: 67.7 % linear top-1 on ImageNet (67.5 +- 0.1 over runs).
train_dataloader = dict(dataset=dict(transform=dict(recipe='moco_v2')))
