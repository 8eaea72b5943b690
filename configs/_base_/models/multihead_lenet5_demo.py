# LeNet-5 (LeCun et al. 1998) for grey 32 x 32 images with a linear head for each task, made when the task begins.
model = dict(
    backbone=dict(type='LeNet5'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='MultiHeadClassifier', in_features=120))
