# python tools/extract_features.py configs/features/efficientnet-lite0_clear10.py
_base_ = ['../_base_/encoders/efficientnet_lite0.py']
data = dict(type='CLEAR', data_root='data/clear10', data_name='clear10')
batch_size = 64
num_workers = 4
