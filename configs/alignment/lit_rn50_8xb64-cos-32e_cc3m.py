# bash tools/dist_train.sh configs/alignment/lit_rn50_8xb64-cos-32e_cc3m.py 8
_base_ = ['../_base_/models/alignment/clip_rn50.py', '../_base_/datasets/cc3m_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_32e.py']

# LiT (Zhai et al. 2022, arXiv:2111.07991): the image tower is locked, the text tower learns to describe it.
# Give the image tower weights: model.image_encoder.weights=...
model = dict(image_encoder=dict(trainable=False))
