# bash tools/dist_train.sh configs/selfsup/mocov1_resnet50_8xb32-step-200e_imagenet.py 8
_base_ = ['../_base_/models/selfsup/mocov1_resnet50.py', '../_base_/datasets/imagenet_views.py',
         '../_base_/schedules/sgd_cos_200e.py']

# The schedule of v1: a tenth at epochs 120 and 160.
train_dataloader = dict(dataset=dict(transform=dict(recipe='moco_v1')))
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[120, 160], gamma=0.1)]
