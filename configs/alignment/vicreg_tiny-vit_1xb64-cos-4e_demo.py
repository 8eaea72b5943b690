# python tools/train.py configs/alignment/vicreg_tiny-vit_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# VICReg (Bardes et al. 2022, arXiv:2105.04906) with the modalities as views.
model = dict(
    loss=dict(type='VICRegLoss'),
    image_head=dict(type='ProjectionMLP', num_layers=2, norm=True, hidden_channels=256),
    text_head=dict(type='ProjectionMLP', num_layers=2, norm=True, hidden_channels=256), joint_dim=256)
