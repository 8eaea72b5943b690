# bash tools/dist_train.sh configs/alignment/siglip_rn50_8xb64-cos-32e_cc3m.py 8
_base_ = ['../_base_/models/alignment/clip_rn50.py', '../_base_/datasets/cc3m_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_32e.py']

# SigLIP (Zhai et al. 2023, arXiv:2303.15343) from scratch: scale 10 and bias -10 at first.
model = dict(loss=dict(type='SigLIPLoss'))
