# NYU Depth v2 with the masks of Mottaghi et al. 2016 (arXiv:1603.00940): where one can walk.
# ViRB (all.yaml): adam, 1e-4, 250 epochs, batches of 16.
tasks = [dict(
    type='PixelwiseProbe', name='nyu_walkable', level='pixel', kind='structural', seeds=3,
    head=dict(type='PixelWiseHead'), loss=dict(type='bce_logits'), metric='iou',
    recipe=dict(size=(224, 224), jitter=(0.4, 0.4, 0.4, 0.2), gray=0.2),
    lrs=[1e-4], optimizers=['adam'], schedules=['constant'], epochs=250, batch_size=16,
    data=dict(train=dict(type='NYUWalkable', root='data/nyu', split='train'),
              test=dict(type='NYUWalkable', root='data/nyu', split='test')))]
