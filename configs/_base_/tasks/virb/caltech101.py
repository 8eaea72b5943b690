# Caltech-101 (Li et al. 2004) on ViRB's lists; without them 30 images of each category are drawn to train on.
# ViRB (all.yaml): adam, 1e-4, 500 epochs, batches of 32.
tasks = [dict(
    type='LinearProbe', name='caltech101', level='image', kind='semantic',
    lrs=[1e-4, 1e-3, 1e-2], optimizers=['adam'], schedules=['constant'], epochs=500, batch_size=32,
    data=dict(train=dict(type='Caltech101', root='data/caltech-101', split='train'),
              test=dict(type='Caltech101', root='data/caltech-101', split='test')))]
