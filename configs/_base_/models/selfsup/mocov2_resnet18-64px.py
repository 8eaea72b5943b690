_base_ = ['./mocov2_resnet50.py']

# Sized for one CPU core: ResNet-18 with half its channels and the usual first layer, on images of 64 pixels.
model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=18, stem_channels=32, base_channels=32),
    neck=dict(in_channels=256), queue_size=2048, momentum=0.99,
    data_preprocessor=dict(views=dict(type='BatchedMultiCrop', recipe='moco_v2', options=dict(size=64))))
