# The earliest bucket of a curation of YFCC100M, on which CLEAR's features were pretrained (Lin et al. 2021,
# arXiv:2201.06289): bucket files and images in data/yfcc.
train_dataloader = dict(batch_size=32, num_workers=8, persistent_workers=True, dataset=dict(
    type='BucketImages', data_root='data/yfcc', buckets=[0], transform=dict(type='MultiCrop')))
