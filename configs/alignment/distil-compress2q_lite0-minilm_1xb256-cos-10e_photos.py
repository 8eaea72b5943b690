# python tools/train.py configs/alignment/distil-compress2q_lite0-minilm_1xb256-cos-10e_photos.py
# kNN before, then after training, seeds 0, 1 and 2: 0.604 0.726, 0.611 0.719, 0.633 0.731 (docs/alignment.md).
_base_ = ['../_base_/models/alignment/lite0-student_minilm.py', '../_base_/datasets/photos_pairs_knn.py',
          '../_base_/schedules/adamw_cos_pairs_photos.py']

# CompRess (Koohpayegani et al. 2020, arXiv:2010.14713) across modalities, as in ITRA. Two queues fix no common axes, so
# widths may differ.
model = dict(loss=dict(type='CompRessLoss', num_queues=2, embed_dim=384, student_dim=128, queue_size=1024),
             image_head=dict(bottleneck_channels=128))
