# python tools/train.py configs/alignment/adapter-bottleneck_tiny-vit-minilm_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny-student_minilm.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# Adapters of a sixteenth of the width after attention and feed-forward layer (Houlsby et al. 2019, arXiv:1902.00751).
model = dict(text_encoder=dict(adapter='bottleneck_adapter'), loss=dict(type='InfoNCELoss'))
