# python tools/train.py configs/alignment/clip_tiny-vit_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# CLIP (Radford et al. 2021, arXiv:2103.00020) from scratch.
