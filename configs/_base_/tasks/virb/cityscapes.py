# Cityscapes (Cordts et al. 2016, arXiv:1604.01685): the 19 classes of the benchmark, tested on its validation images as
# they are. ViRB (all.yaml): adam, 3e-4, poly 0.9 (which never stepped there), 100 epochs, batches of 16; its twentieth
# class, void, does not count here.
tasks = [dict(
    type='PixelwiseProbe', name='cityscapes', level='pixel', kind='semantic', seeds=3,
    head=dict(type='DeepLabHead'), loss=dict(type='cross_entropy'), metric='miou',
    recipe=dict(scale=(0.5, 2.0), mirror=0.5, crop=450),
    lrs=[3e-4], optimizers=['adam'], schedules=[dict(type='poly', power=0.9)], epochs=100, batch_size=16,
    test_batch_size=2,
    data=dict(train=dict(type='Cityscapes', root='data/cityscapes', split='train'),
              test=dict(type='Cityscapes', root='data/cityscapes', split='val')))]
