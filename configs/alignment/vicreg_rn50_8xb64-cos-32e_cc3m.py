# bash tools/dist_train.sh configs/alignment/vicreg_rn50_8xb64-cos-32e_cc3m.py 8
_base_ = ['../_base_/models/alignment/clip_rn50.py', '../_base_/datasets/cc3m_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_32e.py']

# VICReg (Bardes et al. 2022, arXiv:2105.04906) with the modalities as views.
model = dict(
    loss=dict(type='VICRegLoss'),
    image_head=dict(type='ProjectionMLP', num_layers=2, norm=True, hidden_channels=2048),
    text_head=dict(type='ProjectionMLP', num_layers=2, norm=True, hidden_channels=2048), joint_dim=2048)
