# bash tools/dist_train.sh configs/selfsup/clsa-single_resnet50_8xb32-cos-200e_imagenet.py 8
_base_ = ['../_base_/models/selfsup/clsa_resnet50.py', '../_base_/datasets/imagenet_views.py',
         '../_base_/schedules/sgd_cos_200e.py']

# A weak view of 224 pixels, a strong one of 96. Published: 69.4 % linear top-1 on ImageNet.
train_dataloader = dict(dataset=dict(transform=dict(recipe='clsa')))
