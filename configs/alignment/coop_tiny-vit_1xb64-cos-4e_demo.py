# python tools/train.py configs/alignment/coop_tiny-vit_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# Prompt vectors (CoOp, Zhou et al. 2022, arXiv:2109.01134) in front of every caption; the rest of the text tower is
# locked. Here it is random, so the image tower learns with them. In a pair that is trained already
# (tag='openai', allow_network=True in both encoders) lock the image tower too.
model = dict(text_encoder=dict(trainable=False, n_prompt=4))
