# python tools/train.py configs/alignment/barlowtwins_tiny-vit_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230) with the modalities as views.
model = dict(
    loss=dict(type='BarlowTwinsLoss'),
    image_head=dict(type='ProjectionMLP', num_layers=2, norm=True, hidden_channels=256),
    text_head=dict(type='ProjectionMLP', num_layers=2, norm=True, hidden_channels=256), joint_dim=256)
