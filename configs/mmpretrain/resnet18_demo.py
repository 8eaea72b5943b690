# python tools/train.py configs/mmpretrain/resnet18_demo.py
"""mmpretrain's ResNet-18 for CIFAR-10 on bucket 1 of the digits; only data and schedule are other ones."""
_base_ = ['mmpretrain::resnet/resnet18_8xb16_cifar10.py']

_split = 'training_folder/testset_ratio_0.3/split_0/1'
_digits = dict(_delete_=True, type='CustomDataset', data_root='data/demo', ann_file=f'{_split}/train.txt',
               pipeline=[dict(type='LoadImageFromFile'), dict(type='RandomCrop', crop_size=32, padding=4),
                         dict(type='PackInputs')])
_test = dict(_digits, ann_file=f'{_split}/test.txt',
             pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
train_dataloader = dict(batch_size=32, num_workers=0, dataset=_digits)
val_dataloader = dict(batch_size=64, num_workers=0, dataset=_test)
test_dataloader = dict(batch_size=64, num_workers=0, dataset=_test)
val_evaluator = [dict(type='Accuracy', topk=(1, 5)), dict(type='SingleLabelMetric', items=['precision', 'recall'])]
test_evaluator = [dict(type='Accuracy', topk=(1, 5)), dict(type='SingleLabelMetric', items=['precision', 'recall'])]

train_cfg = dict(max_epochs=4)
param_scheduler = dict(milestones=[3])
auto_scale_lr = dict(enable=True)
