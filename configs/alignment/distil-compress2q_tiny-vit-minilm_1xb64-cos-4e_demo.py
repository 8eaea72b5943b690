# python tools/train.py configs/alignment/distil-compress2q_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# CompRess (Koohpayegani et al. 2020, arXiv:2010.14713) across modalities, as in ITRA. Two queues: no axes in common,
# look at kNN.
model = dict(loss=dict(type='CompRessLoss', num_queues=2, embed_dim=384, student_dim=384, queue_size=1024))
