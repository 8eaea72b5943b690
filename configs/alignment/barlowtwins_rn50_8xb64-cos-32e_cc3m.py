# bash tools/dist_train.sh configs/alignment/barlowtwins_rn50_8xb64-cos-32e_cc3m.py 8
_base_ = ['../_base_/models/alignment/clip_rn50.py', '../_base_/datasets/cc3m_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_32e.py']

# Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230) with the modalities as views.
model = dict(
    loss=dict(type='BarlowTwinsLoss'),
    image_head=dict(type='ProjectionMLP', num_layers=2, norm=True, hidden_channels=2048),
    text_head=dict(type='ProjectionMLP', num_layers=2, norm=True, hidden_channels=2048), joint_dim=2048)
