# Oxford-IIIT Pets (Parkhi et al. 2012), 37 breeds. Not in ViRB's all.yaml; its other settings are taken.
tasks = [dict(
    type='LinearProbe', name='pets', level='image', kind='semantic',
    lrs=[1e-4, 1e-3, 1e-2], optimizers=['adam'], schedules=['constant'], epochs=100, batch_size=32,
    data=dict(train=dict(type='ImageFolder', root='data/pets/train'),
              test=dict(type='ImageFolder', root='data/pets/test')))]
