# python tools/train.py configs/alignment/simcse_tiny-vit_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# InfoNCE, and SimCSE (Gao et al. 2021, arXiv:2104.08821) between two encodings of each caption.
model = dict(simcse_weight=0.1)
