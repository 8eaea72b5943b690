# ImageNet's training images without their labels, batch 8 x 32; views are made image by image, as the authors did.
train_dataloader = dict(batch_size=32, num_workers=8, persistent_workers=True, dataset=dict(
    type='FolderImages', data_root='data/imagenet/train', transform=dict(type='MultiCrop')))
