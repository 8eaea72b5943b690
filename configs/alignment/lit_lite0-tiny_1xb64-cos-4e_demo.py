# python tools/train.py configs/alignment/lit_lite0-tiny_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# LiT (Zhai et al. 2022, arXiv:2111.07991): the image tower is locked, the text tower learns to describe it.
model = dict(
    image_encoder=dict(_delete_=True, type='TimmEncoder', arch='tf_efficientnet_lite0',
                       weights='package:efficientnet-lite0',
                       preprocess=dict(resize=64, crop=64, mean=[0.5] * 3, std=[0.5] * 3)),
    image_head=dict(type='ProjectionMLP', num_layers=1))
train_dataloader = dict(dataset=dict(transform=[dict(type='Resize', size=64), dict(type='ToTensor'), dict(
    type='Normalize', mean=[0.5] * 3, std=[0.5] * 3)]))
