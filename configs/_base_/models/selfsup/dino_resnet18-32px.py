_base_ = ['./dino_resnet50.py']

# Sized for two CPU cores: ResNet-18 with half its channels, on images of 32 pixels, which a blur would spoil and
# local crops would leave nothing of.
model = dict(
    backbone=dict(_delete_=True, type='ResNet_CIFAR', depth=18, stem_channels=32, base_channels=32,
                  strides=(2, 2, 2, 2)),
    neck=dict(in_channels=256, out_channels=256, hidden_channels=256, bottleneck_channels=64), momentum=0.99,
    teacher_temp=0.04, warmup_teacher_temp_epochs=0, freeze_last_layer_epochs=0,
    data_preprocessor=dict(views=dict(
        type='BatchedMultiCrop', recipe='dino', changes=dict(blur_prob=0.0),
        options=dict(global_size=32, local_size=16, num_local=0, split_scale=0.3))))
