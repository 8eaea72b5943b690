# bash tools/dist_train.sh configs/selfsup/continual_mocov2-replay_resnet50_8xb32-cos-200e_yfcc.py 8
_base_ = ['./continual_mocov2-finetune_resnet50_8xb32-cos-200e_yfcc.py']

# Ours, not swept: a tenth of a bucket of 700,000 images.
stream = dict(mode='replay', replay_size=70000)
