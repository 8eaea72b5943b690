# python tools/train.py configs/alignment/distil-protocpc_lite0-minilm_1xb256-cos-10e_photos.py
_base_ = ['../_base_/models/alignment/lite0_minilm_prototypes.py', '../_base_/datasets/photos_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_photos.py']

# ProtoCPC (Lee, ICLR 2022) across modalities, as in ITRA.
model = dict(loss=dict(type='ProtoCPCLoss', out_dim=256))
