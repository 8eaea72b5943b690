# python tools/train.py configs/alignment/crossdino_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# DINO (Caron et al. 2021, arXiv:2104.14294) across modalities, as in ITRA.
model = dict(
    loss=dict(type='CrossModalDINOLoss', out_dim=256),
    image_head=dict(out_channels=256), joint_dim=256,
    text_head=dict(type='DINOHead', num_layers=2, hidden_channels=512, out_channels=256))
