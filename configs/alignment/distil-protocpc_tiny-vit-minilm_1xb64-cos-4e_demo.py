# python tools/train.py configs/alignment/distil-protocpc_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# ProtoCPC (Lee, ICLR 2022) across modalities, as in ITRA.
model = dict(
    loss=dict(type='ProtoCPCLoss', out_dim=256),
    image_head=dict(out_channels=256), joint_dim=256,
    text_head=dict(type='DINOHead', num_layers=2, hidden_channels=512, out_channels=256))
