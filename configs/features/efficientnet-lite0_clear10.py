_base_ = ['../_base_/encoders/efficientnet_lite0.py']
data = dict(type='CLEAR', data_root='data/clear10', data_name='clear10')
batch_size = 64
num_workers = 4
