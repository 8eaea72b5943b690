# ResNet-50 whose head has a loss with label smoothing (Szegedy et al. 2015, arXiv:1512.00567); a continual run takes
# its loss from cl_strategy.
model = dict(
    backbone=dict(type='ResNet', depth=50),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=1000, in_channels=2048,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)))
