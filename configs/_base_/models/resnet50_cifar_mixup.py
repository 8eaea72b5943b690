# ResNet-50 for 32 px for training with mixup (Zhang et al. 2017, arXiv:1710.09412): a head whose own loss takes
# soft targets. The mixing itself belongs to the training; a continual run takes its loss from cl_strategy.
model = dict(
    backbone=dict(type='ResNet_CIFAR', depth=50),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='MultiLabelLinearClsHead', num_classes=10, in_channels=2048,
        loss=dict(type='CrossEntropyLoss', use_soft=True)))
