# python tools/train.py configs/selfsup/mocov2_resnet18_1xb64-cos-40e_scenes.py
# On data/demo_scenes_more; kNN on data/demo_scenes/imagenet. docs/demo_scenes.md says how both are made.
_base_ = ['../_base_/models/selfsup/mocov2_resnet18-64px.py', '../_base_/datasets/scenes_squares.py',
         '../_base_/schedules/sgd_cos_demo.py']

param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=40, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=40)
