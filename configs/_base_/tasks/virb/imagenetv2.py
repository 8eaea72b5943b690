# ImageNet-V2 (Recht et al. 2019, arXiv:1902.10811), matched frequency: the head that the task imagenet trains, tested on
# new images. Its folders are numbers of ImageNet's classes, whose names are those of the training folders.
tasks = [dict(
    type='TrainedHead', name='imagenetv2', level='image', kind='semantic', of='imagenet',
    data=dict(test=dict(type='ImageNetV2', root='data/imagenetv2', classes='../imagenet/train')))]
