# bash tools/dist_train.sh configs/selfsup/dino_resnet50_8xb32-mcrop-cos-100e_imagenet.py 8
_base_ = ['../_base_/models/selfsup/dino_resnet50.py', '../_base_/datasets/imagenet_views.py',
         '../_base_/schedules/sgd_cos_200e.py']

# The authors' settings for ResNet-50: SGD, crops on either side of 14 % of the area, a teacher temperature without
# warm-up, the gradient of each parameter bounded by itself.
model = dict(teacher_temp=0.04, warmup_teacher_temp_epochs=0)
train_dataloader = dict(dataset=dict(transform=dict(recipe='dino', options=dict(split_scale=0.14))))
optim_wrapper = dict(clip_grad=dict(type='norm_per_parameter', max_norm=3.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=90, eta_min=1e-6, by_epoch=True, begin=10, end=100,
         convert_to_iter_based=True)]
train_cfg = dict(max_epochs=100)
sync_bn = True
