# Images of one's own, ROOT/<class>/<image>, some classes in each experience; 30 % of every class are for testing.
_normalize = dict(type='Normalize', mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
scenario = dict(
    type='FolderByClass', data_root='data/by_class', n_experiences=5, seed=0, test_ratio=0.3,
    train_transform=[dict(type='Resize', size=224), dict(type='RandomCrop', size=224),
                     dict(type='RandomHorizontalFlip', p=0.5), dict(type='ToTensor'), _normalize],
    eval_transform=[dict(type='Resize', size=256), dict(type='CenterCrop', size=224), dict(type='ToTensor'), _normalize])
