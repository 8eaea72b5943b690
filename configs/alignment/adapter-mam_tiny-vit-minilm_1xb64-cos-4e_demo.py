# python tools/train.py configs/alignment/adapter-mam_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# Mix-and-Match (He et al. 2021, arXiv:2110.04366): prefixes, and adapters beside the feed-forward layers.
model = dict(text_encoder=dict(adapter='mam_adapter'), loss=dict(type='InfoNCELoss'))
