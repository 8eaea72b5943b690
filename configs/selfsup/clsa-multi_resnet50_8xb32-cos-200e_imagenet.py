# bash tools/dist_train.sh configs/selfsup/clsa-multi_resnet50_8xb32-cos-200e_imagenet.py 8
_base_ = ['../_base_/models/selfsup/clsa_resnet50.py', '../_base_/datasets/imagenet_views.py',
         '../_base_/schedules/sgd_cos_200e.py']

# Five weak and five strong views of 224, 192, 160, 128 and 96 pixels, 25 pairs. Published: 73.3 % linear top-1.
model = dict(num_weak=5, num_strong=5)
train_dataloader = dict(dataset=dict(transform=dict(recipe='clsa_multi')))
