_base_ = ['./swav_resnet50.py']

# Sized for two CPU cores: ResNet-18 with half its channels, on images of 32 pixels, which a blur would spoil.
model = dict(
    backbone=dict(_delete_=True, type='ResNet_CIFAR', depth=18, stem_channels=32, base_channels=32,
                  strides=(2, 2, 2, 2)),
    neck=dict(in_channels=256, hidden_channels=256), num_prototypes=64, queue_size=384, queue_start_epoch=1,
    data_preprocessor=dict(views=dict(
        type='BatchedMultiCrop', recipe='swav', changes=dict(blur_prob=0.0),
        options=dict(size_crops=(32, 16), num_crops=(2, 2), min_scale=(0.2, 0.08), max_scale=(1.0, 0.3)))))
