# KITTI 2015 (Menze and Geiger 2015): the flow between two frames, in their pixels; the last tenth of the scenes tests.
# ViRB (all.yaml): adam, 3e-4, 250 epochs, batches of 16; it predicts the luminance of a picture of the flow
# (KITTIFlow's legacy=True, with loss nonzero_l1 and metric neighbour_accuracy).
tasks = [dict(
    type='PixelwiseProbe', name='kitti_flow', level='pixel', kind='structural', seeds=3,
    head=dict(type='SiameseHead'), loss=dict(type='epe'), metric='epe', recipe=dict(crop=224),
    lrs=[3e-4], optimizers=['adam'], schedules=['constant'], epochs=250, batch_size=16, test_batch_size=4,
    data=dict(train=dict(type='KITTIFlow', root='data/KITTI', split='train'),
              test=dict(type='KITTIFlow', root='data/KITTI', split='test')))]
