# bash tools/dist_train.sh configs/selfsup/mocov2_resnet50_8xb32-cos-200e_yfcc-b0.py 8
_base_ = ['../_base_/models/selfsup/mocov2_resnet50.py', '../_base_/datasets/yfcc-b0_views.py',
         '../_base_/schedules/sgd_cos_200e.py']

# CLEAR's 'moco_b0' encoder (Lin et al. 2021, arXiv:2201.06289): MoCo v2 on the bucket before those of the benchmark.
train_dataloader = dict(dataset=dict(transform=dict(recipe='moco_v2')))
