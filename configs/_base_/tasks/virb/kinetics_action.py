# Kinetics-400 (Kay et al. 2017, arXiv:1705.06950): the action in six frames of a video, whose embeddings stand side by
# side. ViRB (all.yaml): adam, 3e-4, 100 epochs, batches of 32.
tasks = [dict(
    type='MLPProbe', name='kinetics_action', level='image', kind='semantic',
    lrs=[1e-4, 3e-4, 1e-3], optimizers=['adam'], schedules=['constant'], epochs=100, batch_size=32,
    data=dict(train=dict(type='KineticsFrames', root='data/kinetics400', split='train'),
              test=dict(type='KineticsFrames', root='data/kinetics400', split='validate')))]
