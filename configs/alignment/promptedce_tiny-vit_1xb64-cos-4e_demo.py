# python tools/train.py configs/alignment/promptedce_tiny-vit_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# Both towers name the class of a pair: cross-entropy of their outputs as logits (ITRA).
model = dict(
    loss=dict(type='PromptedCrossEntropyLoss'), joint_dim=10,
    image_head=dict(type='ProjectionMLP', num_layers=1), text_head=dict(type='ProjectionMLP', num_layers=1))
