# python tools/train.py configs/mmpretrain/swav_resnet50_demo.py
"""mmpretrain's SwAV of ResNet-50 with multi-crop on bucket 1 of the digits; only data and schedule are other ones."""
_base_ = ['mmpretrain::swav/swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px.py']

_jitter = dict(type='RandomApply', prob=0.8, transforms=[
    dict(type='ColorJitter', brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)])
_large = [dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.14, 1.0), backend='pillow'), _jitter]
_small = [dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.05, 0.14), backend='pillow'), _jitter]
train_dataloader = dict(
    batch_size=32, num_workers=0, persistent_workers=False,
    dataset=dict(_delete_=True, type='CustomDataset', data_root='data/demo',
                 ann_file='training_folder/testset_ratio_0.3/split_0/1/train.txt',
                 pipeline=[dict(type='LoadImageFromFile'),
                           dict(type='MultiView', num_views=[2, 6], transforms=[_large, _small]),
                           dict(type='PackInputs')]))

train_cfg = dict(max_epochs=4)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=4, eta_min=6e-4, convert_to_iter_based=True)]
# The schedule of the queue and of the prototypes: from the third epoch on, and frozen in the first.
custom_hooks = [dict(type='SwAVHook', priority='VERY_HIGH', batch_size=32, epoch_queue_starts=2, feat_dim=128,
                     crops_for_assign=[0, 1], queue_length=384, frozen_layers_cfg=dict(prototypes=39))]
