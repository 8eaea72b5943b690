# LeNet-5 (LeCun et al. 1998) for grey 32 x 32 images of ten digits; its features are (N, 120, 1, 1), hence the neck.
model = dict(
    backbone=dict(type='LeNet5'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=120))
