# bash tools/dist_train.sh configs/alignment/distil-rkd_resnet50-minilm_8xb64-cos-32e_cc3m.py 8
_base_ = ['../_base_/models/alignment/rn50_minilm.py', '../_base_/datasets/cc3m_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_32e.py']

# RKD (Park et al. 2019, arXiv:1904.05068) across modalities, as in ITRA. No axes in common: look at kNN.
model = dict(loss=dict(type='RKDLoss'))
