# Taskonomy (Zamir et al. 2018, arXiv:1804.08328): edges of the texture. ViRB has the data set and this loss, but no
# number in the paper; the settings are those of its depth.
tasks = [dict(
    type='PixelwiseProbe', name='taskonomy_edges', level='pixel', kind='structural', seeds=3,
    head=dict(type='PixelWiseHead'), loss=dict(type='weighted_l1'), metric='l1',
    recipe=dict(size=(224, 224), jitter=(0.4, 0.4, 0.4, 0.2), gray=0.2),
    lrs=[1e-4], optimizers=['adam'], schedules=['constant'], epochs=50, batch_size=16,
    data=dict(train=dict(type='TaskonomyEdges', root='data/taskonomy', split='train'),
              test=dict(type='TaskonomyEdges', root='data/taskonomy', split='test')))]
