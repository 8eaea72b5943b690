# bash tools/dist_train.sh configs/selfsup/continual_mocov2-distil_resnet50_8xb32-cos-200e_yfcc.py 8
_base_ = ['./continual_mocov2-finetune_resnet50_8xb32-cos-200e_yfcc.py']

# Weight and width as in CaSSLe (Fini et al. 2022, arXiv:2112.04215).
stream = dict(mode='distil', distil=dict(weight=1.0, hidden_channels=2048))
