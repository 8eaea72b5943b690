# bash tools/dist_train.sh configs/alignment/distil-simreg_resnet50-minilm_8xb64-cos-32e_cc3m.py 8
_base_ = ['../_base_/models/alignment/rn50_minilm.py', '../_base_/datasets/cc3m_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_32e.py']

# SimReg (Navaneet et al. 2022, arXiv:2201.05131) across modalities, as in ITRA.
