# CIFAR-100 (Krizhevsky 2009), fine labels. ViRB (all.yaml): adam, 1e-4, 100 epochs, batches of 32.
tasks = [dict(
    type='LinearProbe', name='cifar100', level='image', kind='semantic',
    lrs=[1e-4, 1e-3, 1e-2], optimizers=['adam'], schedules=['constant'], epochs=100, batch_size=32,
    data=dict(train=dict(type='CIFAR100Pickles', root='data/cifar-100', split='train'),
              test=dict(type='CIFAR100Pickles', root='data/cifar-100', split='test')))]
