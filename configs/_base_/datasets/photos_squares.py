# Photographs in data/photos/{train,test}/<class>/<image>; classes only serve kNN.
train_dataloader = dict(batch_size=64, num_workers=0, dataset=dict(
    type='FolderImages', data_root='data/photos/train', image_size=32, cache='ram'))
custom_hooks = [dict(
    type='OnlineKNNHook', at_start=True, interval=4, train=dict(data_root='data/photos/train', image_size=32),
    test=dict(data_root='data/photos/test', image_size=32))]
