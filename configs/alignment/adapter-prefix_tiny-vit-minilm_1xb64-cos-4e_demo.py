# python tools/train.py configs/alignment/adapter-prefix_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# Prefix tuning (Li and Liang 2021, arXiv:2101.00190): 30 keys and values in front of every layer's own.
model = dict(text_encoder=dict(adapter='prefix_tuning'), loss=dict(type='InfoNCELoss'))
