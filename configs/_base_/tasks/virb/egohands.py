# EgoHands (Bambach et al. 2015): whose hand each pixel shows. miou is over all five classes, hands_miou over the four
# hands. ViRB (all.yaml): adam, 3e-4, 25 epochs, batches of 16; the background weighs a tenth; a crop is drawn up to
# eleven times until it has two classes. Here videos 6, 13, 27 and 46, which ViRB does not use, validate.
tasks = [dict(
    type='PixelwiseProbe', name='egohands', level='pixel', kind='semantic', seeds=3,
    head=dict(type='DeepLabHead'), loss=dict(type='cross_entropy', weight=[0.1, 1.0, 1.0, 1.0, 1.0]), metric='miou',
    metric_options=dict(means=dict(hands_miou=[1, 2, 3, 4])),
    recipe=dict(crop=513, crop_classes=dict(least=2, tries=11)),
    lrs=[3e-4], optimizers=['adam'], schedules=['constant'], epochs=25, batch_size=16, test_batch_size=4,
    data=dict(train=dict(type='EgoHands', root='data/egohands', split='train'),
              val=dict(type='EgoHands', root='data/egohands', split='val'),
              test=dict(type='EgoHands', root='data/egohands', split='test')))]
