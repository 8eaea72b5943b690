# python tools/train.py configs/alignment/distil-seed_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# SEED (Fang et al. 2021, arXiv:2101.04731) across modalities, as in ITRA.
model = dict(loss=dict(type='SEEDLoss', embed_dim=384, queue_size=1024))
