# python tools/train.py configs/alignment/unicl_lite0-minilm_1xb256-cos-10e_photos.py
_base_ = ['../_base_/models/alignment/lite0_minilm.py', '../_base_/datasets/photos_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_photos.py']

# UniCL (Yang et al. 2022, arXiv:2204.03610): images of one class are right for each other's captions.
model = dict(loss=dict(type='UniCLLoss'))
