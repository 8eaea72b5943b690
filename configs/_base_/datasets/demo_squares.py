# Four buckets of the demo data (5,000 handwritten digits), views made in batches; kNN on the test images of the first.
train_dataloader = dict(batch_size=64, num_workers=0, dataset=dict(
    type='BucketImages', data_root='data/demo', buckets=[0, 1, 2, 3], image_size=32, cache='ram'))
_knn = dict(data_root='data/demo', image_size=32)
custom_hooks = [dict(
    type='OnlineKNNHook', at_start=True, train=dict(**_knn, choice=dict(buckets=[0], split='train')),
    test=dict(**_knn, choice=dict(buckets=[0], split='test')))]
