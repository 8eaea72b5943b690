# python tools/train.py configs/selfsup/swav_resnet18_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/selfsup/swav_resnet18-32px.py', '../_base_/datasets/demo_squares.py',
         '../_base_/schedules/adamw_cos_demo.py']

# Digits keep their hands: mirrored they would be other signs.
model = dict(data_preprocessor=dict(views=dict(changes=dict(flip_prob=0.0))))
