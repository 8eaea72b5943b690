# bash tools/dist_train.sh configs/alignment/distil-protocpc_resnet50-minilm_8xb64-cos-32e_cc3m.py 8
_base_ = ['../_base_/models/alignment/rn50_minilm.py', '../_base_/datasets/cc3m_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_32e.py']

# ProtoCPC (Lee, ICLR 2022) across modalities, as in ITRA.
model = dict(
    loss=dict(type='ProtoCPCLoss', out_dim=65536),
    image_head=dict(out_channels=65536), joint_dim=256,
    text_head=dict(type='DINOHead', num_layers=2, out_channels=65536))
