# nuScenes (Caesar et al. 2020, arXiv:1903.11027): how the car moved between two frames.
# ViRB (all.yaml): adam, 1e-4, 100 epochs, batches of 32.
tasks = [dict(
    type='MLPProbe', name='nuscenes_egomotion', level='image', kind='structural',
    lrs=[1e-4, 1e-3, 1e-2], optimizers=['adam'], schedules=['constant'], epochs=100, batch_size=32,
    data=dict(train=dict(type='NuScenesPairs', root='data/nuScenes', split='train'),
              test=dict(type='NuScenesPairs', root='data/nuScenes', split='test')))]
