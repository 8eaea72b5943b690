# python tools/train.py configs/selfsup/continual_mocov2-distil_resnet18_1xb64-cos-2e_demo.py
_base_ = ['./continual_mocov2-finetune_resnet18_1xb64-cos-2e_demo.py']

# The encoder of the bucket before is predicted from the current one (CaSSLe, Fini et al. 2022, arXiv:2112.04215).
stream = dict(mode='distil', distil=dict(weight=1.0, hidden_channels=256))
