# ImageNet (Russakovsky et al. 2015, arXiv:1409.0575), tested on its validation images.
# ViRB (all.yaml): adam, 1e-4, 100 epochs, batches of 32.
tasks = [dict(
    type='LinearProbe', name='imagenet', level='image', kind='semantic',
    lrs=[1e-4, 1e-3, 1e-2], optimizers=['adam'], schedules=['constant'], epochs=100, batch_size=32,
    data=dict(train=dict(type='ImageFolder', root='data/imagenet/train'),
              test=dict(type='ImageFolder', root='data/imagenet/val')))]
