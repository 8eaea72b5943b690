# Oxford-IIIT Pets (Parkhi et al. 2012): where the animal is; its border does not count.
# ViRB (all.yaml): adam, 1e-4, 100 epochs, batches of 16.
tasks = [dict(
    type='PixelwiseProbe', name='pets_detection', level='pixel', kind='semantic', seeds=3,
    head=dict(type='PixelWiseHead'), loss=dict(type='bce_logits'), metric='iou',
    recipe=dict(size=(224, 224), jitter=(0.4, 0.4, 0.4, 0.2), gray=0.2),
    lrs=[1e-4], optimizers=['adam'], schedules=['constant'], epochs=100, batch_size=16,
    data=dict(train=dict(type='PetsTrimaps', root='data/pets', split='train'),
              test=dict(type='PetsTrimaps', root='data/pets', split='test')))]
