# COCO (Lin et al. 2014, arXiv:1405.0312), panoptic: the category of every pixel, by its number, of which 133 occur.
# ViRB has the data set, but no number in the paper; the settings are those of its pets.
tasks = [dict(
    type='PixelwiseProbe', name='coco_detection', level='pixel', kind='semantic', seeds=3,
    head=dict(type='PixelWiseHead'), loss=dict(type='cross_entropy'), metric='miou', recipe=dict(size=(224, 224)),
    lrs=[1e-4], optimizers=['adam'], schedules=['constant'], epochs=100, batch_size=16,
    data=dict(train=dict(type='CocoPanoptic', root='data/coco', split='train'),
              test=dict(type='CocoPanoptic', root='data/coco', split='val')))]
