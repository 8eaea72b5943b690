# Taskonomy (Zamir et al. 2018, arXiv:1804.08328): the image itself, of which the middle is hidden. ViRB has the data
# set, but no number in the paper; the settings are those of its depth. Nothing is random, so maps are stored.
tasks = [dict(
    type='PixelwiseProbe', name='taskonomy_inpainting', level='pixel', kind='structural', seeds=3,
    head=dict(type='PixelWiseHead'), loss=dict(type='l1'), metric='l1',
    recipe=dict(size=(224, 224), hole=(64, 160)),
    lrs=[1e-4], optimizers=['adam'], schedules=['constant'], epochs=50, batch_size=16,
    data=dict(train=dict(type='Inpainting', root='data/taskonomy', split='train'),
              test=dict(type='Inpainting', root='data/taskonomy', split='test')))]
