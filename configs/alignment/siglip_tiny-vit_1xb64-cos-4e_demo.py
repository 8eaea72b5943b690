# python tools/train.py configs/alignment/siglip_tiny-vit_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# SigLIP (Zhai et al. 2023, arXiv:2303.15343) from scratch: scale 10 and bias -10 at first.
model = dict(loss=dict(type='SigLIPLoss'))
