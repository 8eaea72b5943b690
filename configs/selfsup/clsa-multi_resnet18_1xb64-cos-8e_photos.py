_base_ = ['./clsa-multi_resnet18_1xb64-cos-4e_demo.py']

# Photographs in data/photos/{train,test}/<class>/<image>; classes only serve kNN.
model = dict(data_preprocessor=dict(views=dict(changes=dict(flip_prob=0.5))))
train_dataloader = dict(dataset=dict(_delete_=True, type='FolderImages', data_root='data/photos/train', image_size=32,
                                     cache='ram'))
custom_hooks = [dict(
    type='OnlineKNNHook', at_start=True, interval=4, train=dict(data_root='data/photos/train', image_size=32),
    test=dict(data_root='data/photos/test', image_size=32))]
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=8, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=8)
