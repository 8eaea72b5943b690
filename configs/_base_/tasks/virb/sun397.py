# SUN397 (Xiao et al. 2010), scenes. ViRB (all.yaml): adam, 1e-4, 250 epochs, batches of 32.
tasks = [dict(
    type='LinearProbe', name='sun397', level='image', kind='semantic',
    lrs=[1e-4, 1e-3, 1e-2], optimizers=['adam'], schedules=['constant'], epochs=250, batch_size=32,
    data=dict(train=dict(type='ImageFolder', root='data/SUN397/train'),
              test=dict(type='ImageFolder', root='data/SUN397/test')))]
