# CLEVR: how far the nearest object is from the middle of the floor. ViRB has the data set, no setting of all.yaml and no
# number in the paper; the settings are those of counting.
tasks = [dict(
    type='LinearProbe', name='clevr_dist', level='image', kind='structural',
    lrs=[1e-4, 1e-3, 1e-2], optimizers=['adam'], schedules=['constant'], epochs=100, batch_size=32,
    data=dict(train=dict(type='CLEVRScenes', root='data/CLEVR', split='train', answer='distance'),
              test=dict(type='CLEVRScenes', root='data/CLEVR', split='val', answer='distance')))]
