# python tools/train.py configs/alignment/adapter-lang_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# Adapters after the feed-forward layer, and an invertible one at the embeddings (MAD-X, Pfeiffer et al. 2020,
# arXiv:2005.00052).
model = dict(text_encoder=dict(adapter='lang_adapter'), loss=dict(type='InfoNCELoss'))
