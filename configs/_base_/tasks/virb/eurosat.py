# EuroSAT (Helber et al. 2019, arXiv:1709.00029), RGB. ViRB (all.yaml): adam, 1e-4, 200 epochs, batches of 32.
tasks = [dict(
    type='LinearProbe', name='eurosat', level='image', kind='semantic',
    lrs=[1e-4, 1e-3, 1e-2], optimizers=['adam'], schedules=['constant'], epochs=200, batch_size=32,
    data=dict(train=dict(type='ImageFolder', root='data/eurosat/train'),
              test=dict(type='ImageFolder', root='data/eurosat/test')))]
