_base_ = ['./swav_resnet50.py']

# Sized for two CPU cores: ResNet-18 with half its channels, on images of 32 pixels, which a blur would spoil.
# Sharper codes than the paper's: with epsilon 0.05 they stayed uniform (loss log(64)) on 5,000 photographs.
model = dict(
    backbone=dict(_delete_=True, type='ResNet_CIFAR', depth=18, stem_channels=32, base_channels=32,
                  strides=(2, 2, 2, 2)),
    neck=dict(in_channels=256, hidden_channels=256), num_prototypes=128, epsilon=0.02,
    queue_size=0, freeze_iterations=0,
    data_preprocessor=dict(views=dict(
        type='BatchedMultiCrop', recipe='swav', changes=dict(blur_prob=0.0),
        options=dict(size_crops=(32, 16), num_crops=(2, 2), min_scale=(0.2, 0.08), max_scale=(1.0, 0.3)))))
