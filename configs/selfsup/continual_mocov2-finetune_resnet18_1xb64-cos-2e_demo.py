# python tools/train.py configs/selfsup/continual_mocov2-finetune_resnet18_1xb64-cos-2e_demo.py
# Pretraining that moves through the ten buckets of the demo data, sized for two CPU cores: MoCo v2 (Chen et al. 2020,
# arXiv:2003.04297) on each bucket, from the weights of the bucket before.
stream = dict(buckets=['1', '2', '3', '4', '5', '6', '7', '8', '9', '10'], mode='finetune')

# ResNet-18 with half its channels, on images of 32 pixels.
_width = 32
model = dict(
    type='MoCo', backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=_width, base_channels=_width,
                               strides=(2, 2, 2, 2)),
    neck=dict(type='ProjectionMLP', in_channels=8 * _width, out_channels=128),
    # A bucket has about 1,250 images: a queue of half of them, and a key encoder that follows within an epoch.
    queue_size=640, momentum=0.99, temperature=0.2,
    # Digits keep their hands: mirrored they would be other signs.
    data_preprocessor=dict(type='ViewPreprocessor', views=dict(
        type='BatchedMultiCrop', recipe='moco_v2', options=dict(size=32), changes=dict(flip_prob=0.0))))
train_dataloader = dict(batch_size=64, num_workers=0, dataset=dict(
    type='BucketImages', data_root='data/demo', image_size=32, cache='ram'))
train_cfg = dict(by_epoch=True, max_epochs=2)  # of each bucket
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=2)]
seed = 0
threads = 1
