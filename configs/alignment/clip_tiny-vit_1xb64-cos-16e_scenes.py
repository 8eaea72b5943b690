# python tools/train.py configs/alignment/clip_tiny-vit_1xb64-cos-16e_scenes.py
# Towers for configs/evaluation/vqa_demo.py, from nothing, on drawn scenes with captions.
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/schedules/adamw_cos_pairs_demo.py']

# CLIP (Radford et al. 2021, arXiv:2103.00020).
train_dataloader = dict(batch_size=64, num_workers=0, dataset=dict(
    type='ImageTextPairs', images=dict(type='ImageTextTable', path='data/scenes/pairs.csv'),
    transform=[dict(type='Resize', size=32), dict(type='ToTensor'),
               dict(type='Normalize', mean=[0.48145466, 0.4578275, 0.40821073],
                    std=[0.26862954, 0.26130258, 0.27577711])]))
param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
                   dict(type='CosineAnnealingLR', by_epoch=True, begin=1, end=16, T_max=15, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=16)
