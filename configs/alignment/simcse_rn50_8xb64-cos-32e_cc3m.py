# bash tools/dist_train.sh configs/alignment/simcse_rn50_8xb64-cos-32e_cc3m.py 8
_base_ = ['../_base_/models/alignment/clip_rn50.py', '../_base_/datasets/cc3m_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_32e.py']

# InfoNCE, and SimCSE (Gao et al. 2021, arXiv:2104.08821) between two encodings of each caption.
model = dict(simcse_weight=0.1)
