# bash tools/dist_train.sh configs/selfsup/linear/linear_resnet50_8xb32-cos-100e_imagenet.py 8
_base_ = ['./linear_resnet50_8xb32-step-100e_imagenet.py']

# CLSA's linear evaluation (Wang and Qi 2021, arXiv:2104.07713; its published code): lr 10 down to 0.01.
optim_wrapper = dict(optimizer=dict(lr=10.0))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=100, eta_min=0.01)]
load_from = dict(path='weights/clsa.pth')
