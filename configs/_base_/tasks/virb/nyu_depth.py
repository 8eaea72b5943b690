# NYU Depth v2 (Silberman et al. 2012): depth in metres, up to ten. ViRB (all.yaml): adam, 3e-4, 250 epochs, batches of
# 16.
tasks = [dict(
    type='PixelwiseProbe', name='nyu_depth', level='pixel', kind='structural', seeds=3,
    head=dict(type='PixelWiseHead'), loss=dict(type='l1'), metric='l1',
    recipe=dict(size=(224, 224), jitter=(0.4, 0.4, 0.4, 0.2), gray=0.2),
    lrs=[3e-4], optimizers=['adam'], schedules=['constant'], epochs=250, batch_size=16,
    data=dict(train=dict(type='NYUDepth', root='data/nyu', split='train'),
              test=dict(type='NYUDepth', root='data/nyu', split='test')))]
