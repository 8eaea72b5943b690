# python tools/train.py configs/alignment/unicl_tiny-vit_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# UniCL (Yang et al. 2022, arXiv:2204.03610): images of one class are right for each other's captions.
model = dict(loss=dict(type='UniCLLoss'))
