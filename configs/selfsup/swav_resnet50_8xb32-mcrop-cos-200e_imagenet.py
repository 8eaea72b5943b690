# bash tools/dist_train.sh configs/selfsup/swav_resnet50_8xb32-mcrop-cos-200e_imagenet.py 8
_base_ = ['../_base_/models/selfsup/swav_resnet50.py', '../_base_/datasets/imagenet_views.py',
         '../_base_/schedules/lars_cos_warm10_200e.py']

# The authors' recipe for batches of 256: no warm-up, a cosine from 0.6 to 0.0006; their LARC adapts and decays every
# parameter, biases and BatchNorm too. freeze_iterations: one epoch.
train_dataloader = dict(dataset=dict(transform=dict(recipe='swav')))
model = dict(freeze_iterations=5005)
optim_wrapper = dict(optimizer=dict(lr=0.6, weight_decay=1e-6, separate_norms=True), paramwise_cfg=dict(_delete_=True))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=200, eta_min=6e-4, by_epoch=True, convert_to_iter_based=True)]
sync_bn = True
