# bash tools/dist_train.sh configs/selfsup/byol_resnet50_8xb32-accum16-cos-300e_imagenet.py 8
_base_ = ['../_base_/models/selfsup/byol_resnet50.py', '../_base_/datasets/imagenet_views.py',
         '../_base_/schedules/lars_cos_warm10_200e.py']

# lr 0.3 x 4096 / 256 for the paper's batch of 4096, of which 256 images are seen at a time. Rate, weight decay and
# momentum are the authors' for 300 epochs; for 1000 they have lr 0.2 x 16, 1.5e-6 and 0.996.
train_dataloader = dict(dataset=dict(transform=dict(recipe='byol')))
optim_wrapper = dict(optimizer=dict(lr=4.8, weight_decay=1e-6), accumulative_counts=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=290, by_epoch=True, begin=10, end=300, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=300)
auto_scale_lr = dict(base_batch_size=4096)
sync_bn = True
