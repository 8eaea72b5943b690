# python tools/train.py configs/mmpretrain/mae_vit-base-p16_demo.py
"""mmpretrain's MAE of ViT-B/16 on bucket 1 of the digits; only data and schedule are other ones."""
_base_ = ['mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py']

train_dataloader = dict(
    batch_size=32, num_workers=0, persistent_workers=False,
    dataset=dict(_delete_=True, type='CustomDataset', data_root='data/demo',
                 ann_file='training_folder/testset_ratio_0.3/split_0/1/train.txt', with_label=True,
                 pipeline=[dict(type='LoadImageFromFile'),
                           dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.2, 1.0), backend='pillow'),
                           dict(type='PackInputs')]))
# 16 patches: images of 64 px in place of 224.
model = dict(backbone=dict(img_size=64), neck=dict(num_patches=16))

train_cfg = dict(max_epochs=4)
param_scheduler = [dict(type='LinearLR', start_factor=1e-4, end=1, convert_to_iter_based=True),
                   dict(type='CosineAnnealingLR', T_max=3, begin=1, end=4, convert_to_iter_based=True)]
auto_scale_lr = dict(enable=True)
