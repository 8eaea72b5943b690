_base_ = ['./clsa_resnet50.py']

# Sized for two CPU cores: ResNet-18 with half its channels, on images of 32 pixels.
model = dict(
    backbone=dict(_delete_=True, type='ResNet_CIFAR', depth=18, stem_channels=32, base_channels=32,
                  strides=(2, 2, 2, 2)),
    neck=dict(in_channels=256), queue_size=1024, momentum=0.99, num_weak=3, num_strong=3,
    data_preprocessor=dict(views=dict(
        type='BatchedMultiCrop', recipe='clsa_multi',
        options=dict(size_crops=(32, 24, 16), num_crops=(1, 1, 1),
                     min_scale=(0.2, 0.143, 0.086), max_scale=(1.0, 0.715, 0.429),
                     key_size=32))))
