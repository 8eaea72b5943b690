# bash tools/dist_train.sh configs/alignment/distil-compress1q_resnet50-minilm_8xb64-cos-32e_cc3m.py 8
_base_ = ['../_base_/models/alignment/rn50_minilm.py', '../_base_/datasets/cc3m_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_32e.py']

# CompRess (Koohpayegani et al. 2020, arXiv:2010.14713) across modalities, as in ITRA. One queue.
model = dict(loss=dict(type='CompRessLoss', num_queues=1, embed_dim=384))
