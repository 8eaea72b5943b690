# bash tools/dist_train.sh configs/selfsup/continual_mocov2-finetune_resnet50_8xb32-cos-200e_yfcc.py 8
# MoCo v2 (Chen et al. 2020, arXiv:2003.04297) on each of CLEAR's time buckets of YFCC100M (Lin et al. 2021,
# arXiv:2201.06289), from the weights of the bucket before; the first bucket alone is CLEAR's 'moco_b0'.
stream = dict(buckets=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], mode='finetune')

model = dict(
    type='MoCo', backbone=dict(type='ResNet', depth=50, zero_init_residual=False),
    neck=dict(type='ProjectionMLP', in_channels=2048, out_channels=128),
    queue_size=65536, momentum=0.999, temperature=0.2, data_preprocessor=dict(type='ViewPreprocessor'))
train_dataloader = dict(batch_size=32, num_workers=4, dataset=dict(
    type='BucketImages', data_root='data/yfcc', transform=dict(type='MultiCrop', recipe='moco_v2')))
train_cfg = dict(by_epoch=True, max_epochs=200)  # of each bucket
# lr 0.03 for 256 images, cosine by epoch, no warm-up: as published.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=200)]
auto_scale_lr = dict(base_batch_size=256)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=50, max_keep=1))
seed = 0
