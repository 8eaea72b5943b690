# bash tools/dist_train.sh configs/alignment/unicl_rn50_8xb64-cos-32e_cc3m.py 8
_base_ = ['../_base_/models/alignment/clip_rn50.py', '../_base_/datasets/cc3m_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_32e.py']

# UniCL (Yang et al. 2022, arXiv:2204.03610): images of one class are right for each other's captions.
model = dict(loss=dict(type='UniCLLoss'))
