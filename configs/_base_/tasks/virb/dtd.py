# Describable Textures (Cimpoi et al. 2014, arXiv:1311.3618). Not in ViRB's all.yaml; its other settings are taken.
tasks = [dict(
    type='LinearProbe', name='dtd', level='image', kind='semantic',
    lrs=[1e-4, 1e-3, 1e-2], optimizers=['adam'], schedules=['constant'], epochs=100, batch_size=32,
    data=dict(train=dict(type='ImageFolder', root='data/dtd/train'),
              test=dict(type='ImageFolder', root='data/dtd/test')))]
