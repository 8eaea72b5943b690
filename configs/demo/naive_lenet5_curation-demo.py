# python tools/train.py configs/demo/naive_lenet5_curation-demo.py
# Naive on what configs/curation/demo.py has made of a photo stream: six classes and the background, five buckets.
_base_ = ['../_base_/models/lenet5_demo.py', '../_base_/strategies/naive.py', '../_base_/default_runtime.py']

_transform = [dict(type='Resize', size=[32, 32], antialias=True), dict(type='Grayscale'), dict(type='ToTensor'),
              dict(type='Normalize', mean=[0.5], std=[0.5])]
scenario = dict(type='CLEAR', data_root='data/curation_demo/clear',
                evaluation_protocol='iid', seed=0, cache='ram', decoder='cv2', train_transform=_transform,
                eval_transform=_transform)
model = dict(head=dict(num_classes=7))
threads = 1
cl_strategy = dict(train_mb_size=32, train_epochs=20, optimizer=dict(lr=0.05), scheduler=dict(step_size=15))
