# ResNet-50 for training with CutMix (Yun et al. 2019, arXiv:1905.04899): a head whose own loss takes
# soft targets. The mixing itself belongs to the training; a continual run takes its loss from cl_strategy.
model = dict(
    backbone=dict(type='ResNet', depth=50),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='MultiLabelLinearClsHead', num_classes=1000, in_channels=2048,
        loss=dict(type='CrossEntropyLoss', use_soft=True)))
