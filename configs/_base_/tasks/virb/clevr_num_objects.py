# CLEVR (Johnson et al. 2017, arXiv:1612.06890): how many objects. ViRB (all.yaml): adam, 1e-4, 100 epochs, batches of 32.
tasks = [dict(
    type='LinearProbe', name='clevr_num_objects', level='image', kind='structural',
    lrs=[1e-4, 1e-3, 1e-2], optimizers=['adam'], schedules=['constant'], epochs=100, batch_size=32,
    data=dict(train=dict(type='CLEVRScenes', root='data/CLEVR', split='train', answer='count'),
              test=dict(type='CLEVRScenes', root='data/CLEVR', split='val', answer='count')))]
