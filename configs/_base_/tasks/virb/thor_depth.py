# AI2-THOR (Kolve et al. 2017, arXiv:1712.05474): depth of a frame, as a share of what white stands for; no metres.
# ViRB (all.yaml): adam, 3e-4 (called adam-0.0001-l1), 50 epochs, batches of 16.
tasks = [dict(
    type='PixelwiseProbe', name='thor_depth', level='pixel', kind='structural', seeds=3,
    head=dict(type='PixelWiseHead'), loss=dict(type='l1'), metric='l1',
    recipe=dict(size=(224, 224), jitter=(0.4, 0.4, 0.4, 0.2), gray=0.2),
    lrs=[3e-4], optimizers=['adam'], schedules=['constant'], epochs=50, batch_size=16,
    data=dict(train=dict(type='ThorDepth', root='data/thor_depth_prediction', split='train'),
              test=dict(type='ThorDepth', root='data/thor_depth_prediction', split='test')))]
