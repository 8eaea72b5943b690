# python tools/train.py configs/alignment/adapter-compacter_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# Compacter (Karimi Mahabadi et al. 2021, arXiv:2106.04647); ITRA calls it 'dummy'.
model = dict(text_encoder=dict(adapter='dummy'), loss=dict(type='InfoNCELoss'))
