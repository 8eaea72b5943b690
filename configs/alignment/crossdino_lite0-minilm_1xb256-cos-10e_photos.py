# python tools/train.py configs/alignment/crossdino_lite0-minilm_1xb256-cos-10e_photos.py
_base_ = ['../_base_/models/alignment/lite0_minilm_prototypes.py', '../_base_/datasets/photos_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_photos.py']

# DINO (Caron et al. 2021, arXiv:2104.14294) across modalities, as in ITRA.
model = dict(loss=dict(type='CrossModalDINOLoss', out_dim=256))
