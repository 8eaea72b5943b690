# python tools/train.py configs/alignment/adapter-ia3_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# IA3 (Liu et al. 2022, arXiv:2205.05638): keys, values and hidden units are rescaled. It can be merged.
model = dict(text_encoder=dict(adapter='ia3_adapter'), loss=dict(type='InfoNCELoss'))
