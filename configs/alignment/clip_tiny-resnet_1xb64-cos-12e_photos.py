# python tools/train.py configs/alignment/clip_tiny-resnet_1xb64-cos-12e_photos.py
# Zero-shot before, then after training, seed 0: 0.101 0.470 (docs/alignment.md).
_base_ = ['../_base_/models/alignment/tiny-resnet_clip.py', '../_base_/datasets/photos_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_photos.py']

# CLIP (Radford et al. 2021, arXiv:2103.00020) from scratch.
train_dataloader = dict(batch_size=64, dataset=dict(transform=[
    dict(type='RandomResizedCrop', size=32, scale=[0.5, 1.0]), dict(type='RandomHorizontalFlip'), dict(type='ToTensor'),
    dict(type='Normalize', mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])]))
param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
                   dict(type='CosineAnnealingLR', by_epoch=True, begin=1, end=12, T_max=11, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=12)
