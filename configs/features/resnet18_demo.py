# python tools/extract_features.py configs/features/resnet18_demo.py
# Random features of the demo's digits: no weights are needed, so it runs anywhere. 32 pixels are enough for 8 x 8.
threads = 1
encoder = dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32))
data = dict(type='CLEAR', data_root='data/demo')
batch_size = 64
