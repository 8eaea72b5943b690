# Describable Textures (Cimpoi et al. 2014, arXiv:1311.3618), classes of images
# through ASPP on the last map: a figure of ViRB's paper has this task, its code the head alone. Settings as of ViRB's
# other tasks.
tasks = [dict(
    type='MapClassifier', name='dtd_deeplab', level='image', kind='semantic', seeds=3,
    head=dict(type='DeepLabClassificationHead'), lrs=[1e-4], optimizers=['adam'], epochs=100, batch_size=32,
    data=dict(train=dict(type='ImageFolder', root='data/dtd/train'),
              test=dict(type='ImageFolder', root='data/dtd/test')))]
