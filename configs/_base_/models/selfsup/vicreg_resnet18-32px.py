_base_ = ['./vicreg_resnet50.py']

# Sized for two CPU cores: ResNet-18 with half its channels, on images of 32 pixels, which a blur would spoil.
model = dict(
    backbone=dict(_delete_=True, type='ResNet_CIFAR', depth=18, stem_channels=32, base_channels=32,
                  strides=(2, 2, 2, 2)),
    neck=dict(in_channels=256, hidden_channels=1024, out_channels=1024),
    data_preprocessor=dict(views=dict(
        type='BatchedMultiCrop', recipe='byol', changes=dict(blur_prob=0.0),
        options=dict(size=32))))
