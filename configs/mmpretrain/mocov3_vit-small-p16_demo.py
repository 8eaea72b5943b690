# python tools/train.py configs/mmpretrain/mocov3_vit-small-p16_demo.py
"""mmpretrain's MoCo v3 of ViT-S/16 on bucket 1 of the digits; only data and schedule are other ones."""
_base_ = ['mmpretrain::mocov3/mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k.py']

_view = [dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.2, 1.0), backend='pillow'),
         dict(type='RandomApply', prob=0.8,
              transforms=[dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)])]
train_dataloader = dict(
    batch_size=32, num_workers=0, persistent_workers=False, drop_last=True,
    dataset=dict(_delete_=True, type='CustomDataset', data_root='data/demo',
                 ann_file='training_folder/testset_ratio_0.3/split_0/1/train.txt',
                 pipeline=[dict(type='LoadImageFromFile'),
                           dict(type='MultiView', num_views=[1, 1], transforms=[_view, _view]),
                           dict(type='PackInputs')]))
# 16 patches: images of 64 px in place of 224.
model = dict(backbone=dict(img_size=64))

train_cfg = dict(max_epochs=4)
param_scheduler = [dict(type='LinearLR', start_factor=1e-4, end=1, convert_to_iter_based=True),
                   dict(type='CosineAnnealingLR', T_max=3, begin=1, end=4, convert_to_iter_based=True)]
auto_scale_lr = dict(enable=True)
