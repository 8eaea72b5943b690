# CLEAR-10 (Lin et al. 2021, arXiv:2201.06289); transforms of the benchmark's own image baselines.
_normalize = dict(type='Normalize', mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
scenario = dict(
    type='CLEAR', data_name='clear10', data_root='data/clear10', evaluation_protocol='iid', seed=0,
    train_transform=[dict(type='Resize', size=224), dict(type='RandomCrop', size=224),
                     dict(type='RandomHorizontalFlip', p=0.5), dict(type='ToTensor'), _normalize],
    eval_transform=[dict(type='Resize', size=256), dict(type='CenterCrop', size=224), dict(type='ToTensor'), _normalize])
