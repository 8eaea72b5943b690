# python tools/train.py configs/alignment/distil-compress1q_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# CompRess (Koohpayegani et al. 2020, arXiv:2010.14713) across modalities, as in ITRA. One queue.
model = dict(loss=dict(type='CompRessLoss', num_queues=1, embed_dim=384, queue_size=1024))
