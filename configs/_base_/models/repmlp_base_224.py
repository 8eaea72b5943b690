# RepMLPNet-B, for images of 224 px (Ding et al. 2021, arXiv:2112.11081).
model = dict(
    backbone=dict(
        type='RepMLPNet', arch='B', img_size=224, out_indices=(3,), reparam_conv_kernels=(1, 3), deploy=False),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=768))
