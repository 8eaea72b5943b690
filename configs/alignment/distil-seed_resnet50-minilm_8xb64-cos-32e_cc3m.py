# bash tools/dist_train.sh configs/alignment/distil-seed_resnet50-minilm_8xb64-cos-32e_cc3m.py 8
_base_ = ['../_base_/models/alignment/rn50_minilm.py', '../_base_/datasets/cc3m_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_32e.py']

# SEED (Fang et al. 2021, arXiv:2101.04731) across modalities, as in ITRA.
model = dict(loss=dict(type='SEEDLoss', embed_dim=384))
