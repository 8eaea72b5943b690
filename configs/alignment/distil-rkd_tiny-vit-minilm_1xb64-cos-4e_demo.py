# python tools/train.py configs/alignment/distil-rkd_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# RKD (Park et al. 2019, arXiv:1904.05068) across modalities, as in ITRA. No axes in common: look at kNN.
model = dict(loss=dict(type='RKDLoss'))
