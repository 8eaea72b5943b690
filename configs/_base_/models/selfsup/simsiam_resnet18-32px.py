_base_ = ['./simsiam_resnet50.py']

# Sized for two CPU cores: ResNet-18 with half its channels, on images of 32 pixels, which a blur would spoil.
model = dict(
    backbone=dict(_delete_=True, type='ResNet_CIFAR', depth=18, stem_channels=32, base_channels=32,
                  strides=(2, 2, 2, 2)),
    neck=dict(in_channels=256, hidden_channels=512, out_channels=512),
    predictor=dict(in_channels=512, hidden_channels=128, out_channels=512),
    data_preprocessor=dict(views=dict(
        type='BatchedMultiCrop', recipe='moco_v2', changes=dict(blur_prob=0.0),
        options=dict(size=32))))
