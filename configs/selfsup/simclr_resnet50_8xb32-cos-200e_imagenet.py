# bash tools/dist_train.sh configs/selfsup/simclr_resnet50_8xb32-cos-200e_imagenet.py 8
_base_ = ['../_base_/models/selfsup/simclr_resnet50.py', '../_base_/datasets/imagenet_views.py',
         '../_base_/schedules/lars_cos_warm10_200e.py']

# lr 0.3 per 256 images; the paper's best results need batches of 4096. The authors' LARS has the rate inside the
# momentum (their `classic_momentum`, which is on).
train_dataloader = dict(dataset=dict(transform=dict(recipe='simclr')))
optim_wrapper = dict(optimizer=dict(rate_in_momentum=True))
sync_bn = True
