# Taskonomy (Zamir et al. 2018, arXiv:1804.08328): depth in metres. ViRB (all.yaml): adam, 1e-4, 50 epochs, batches of
# 16; its depth is scaled image by image, which ours is not.
tasks = [dict(
    type='PixelwiseProbe', name='taskonomy_depth', level='pixel', kind='structural', seeds=3,
    head=dict(type='PixelWiseHead'), loss=dict(type='l1'), metric='l1',
    recipe=dict(size=(224, 224), jitter=(0.4, 0.4, 0.4, 0.2), gray=0.2),
    lrs=[1e-4], optimizers=['adam'], schedules=['constant'], epochs=50, batch_size=16,
    data=dict(train=dict(type='TaskonomyDepth', root='data/taskonomy', split='train'),
              test=dict(type='TaskonomyDepth', root='data/taskonomy', split='test')))]
