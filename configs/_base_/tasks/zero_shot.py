# Zero-shot classification on the sets that a package names or whose data bring their own names (docs/zero_shot.md has
# the sources). torchvision's sets lie in data/ as torchvision unpacks them, the others are image folders
# data/<set>/test/<class>. A set that is not there fails alone. The value is the accuracy, and the mean over classes
# where CLIP (Radford et al. 2021, arXiv:2103.00020, table 9) reports that.
_root = 'data'
tasks = [
    # Classes are called by WordNet's ids, which the list knows; of a variant those that it has are taken.
    dict(type='ZeroShot', name='imagenet', names='imagenet',
         data=dict(test=dict(type='ImageNet', root='data/imagenet/val'))),
    dict(type='ZeroShot', name='imagenet_v2', names='imagenet',
         data=dict(test=dict(type='ImageNet', root='data/imagenet_v2', variant='v2'))),
    dict(type='ZeroShot', name='imagenet_sketch', names='imagenet',
         data=dict(test=dict(type='ImageNet', root='data/imagenet_sketch', variant='sketch'))),
    dict(type='ZeroShot', name='imagenet_a', names='imagenet', match='name',
         data=dict(test=dict(type='ImageNet', root='data/imagenet_a', variant='a'))),
    dict(type='ZeroShot', name='imagenet_r', names='imagenet', match='name',
         data=dict(test=dict(type='ImageNet', root='data/imagenet_r', variant='r'))),
    dict(type='ZeroShot', name='cifar10', templates='cifar10',
         data=dict(test=dict(type='TorchVision', dataset='CIFAR10', root=_root, train=False))),
    dict(type='ZeroShot', name='cifar100', templates='cifar100',
         data=dict(test=dict(type='TorchVision', dataset='CIFAR100', root=_root, train=False))),
    dict(type='ZeroShot', name='stl10', templates='stl10',
         data=dict(test=dict(type='TorchVision', dataset='STL10', root=_root, split='test'))),
    # torchvision calls the classes '0 - zero', ...; of others below it has numbers. The order is that of the list.
    dict(type='ZeroShot', name='mnist', names='mnist', match='order',
         data=dict(test=dict(type='TorchVision', dataset='MNIST', root=_root, train=False))),
    dict(type='ZeroShot', name='svhn', names='svhn', match='order',
         data=dict(test=dict(type='TorchVision', dataset='SVHN', root=_root, split='test'))),
    dict(type='ZeroShot', name='food101', templates='food101',
         data=dict(test=dict(type='TorchVision', dataset='Food101', root=_root, split='test'))),
    dict(type='ZeroShot', name='dtd', templates='dtd',
         data=dict(test=dict(type='TorchVision', dataset='DTD', root=_root, split='test', partition=1))),
    dict(type='ZeroShot', name='stanford_cars', templates='cars',
         data=dict(test=dict(type='TorchVision', dataset='StanfordCars', root=_root, split='test'))),
    dict(type='ZeroShot', name='fgvc_aircraft', templates='fgvc_aircraft', metric='mean_per_class',
         data=dict(test=dict(type='TorchVision', dataset='FGVCAircraft', root=_root, split='test'))),
    dict(type='ZeroShot', name='flowers102', names='flowers', metric='mean_per_class',
         data=dict(test=dict(type='TorchVision', dataset='Flowers102', root=_root, split='test'))),
    dict(type='ZeroShot', name='oxford_pets', names='pets', metric='mean_per_class',
         data=dict(test=dict(type='TorchVision', dataset='OxfordIIITPet', root=_root, split='test'))),
    dict(type='ZeroShot', name='gtsrb', names='gtsrb', match='order',
         data=dict(test=dict(type='TorchVision', dataset='GTSRB', root=_root, split='test'))),
    # Folders are called by codes of countries, in the order of the list.
    dict(type='ZeroShot', name='country211', names='country211', match='order',
         data=dict(test=dict(type='TorchVision', dataset='Country211', root=_root, split='test'))),
    dict(type='ZeroShot', name='rendered_sst2', templates='renderedsst2',
         data=dict(test=dict(type='TorchVision', dataset='RenderedSST2', root=_root, split='test'))),
    dict(type='ZeroShot', name='patch_camelyon', names='pcam', match='order',
         data=dict(test=dict(type='TorchVision', dataset='PCAM', root=_root, split='test'))),
    # torchvision has numbers in Kaggle's order; the list of this name is in that of the alphabet.
    dict(type='ZeroShot', name='fer2013', templates='fer2013',
         names=['angry', 'disgusted', 'fearful', 'happy', 'sad', 'surprised', 'neutral'],
         data=dict(test=dict(type='TorchVision', dataset='FER2013', root=_root, split='test'))),
    # All 27,000 images; CLIP's 5,000 for test are in ELEVATER's copy alone. Other words for the same ten classes.
    dict(type='ZeroShot', name='eurosat', names='eurosat', match='order',
         data=dict(test=dict(type='TorchVision', dataset='EuroSAT', root=_root))),
    # The probability of each class is the softmax over all, as in ELEVATER.
    dict(type='ZeroShot', name='voc2007', templates='voc2007', metric='map_11point',
         data=dict(test=dict(type='VOC2007', root='data/VOCdevkit', split='test'))),
    # The folders of the archive, BACKGROUND_Google among them: 102 classes.
    dict(type='ZeroShot', name='caltech101', names='caltech101', metric='mean_per_class',
         data=dict(test=dict(type='ImageFolder', root='data/caltech101/test'))),
    dict(type='ZeroShot', name='sun397', templates='sun397',
         data=dict(test=dict(type='ImageFolder', root='data/sun397/test'))),
    dict(type='ZeroShot', name='resisc45', templates='resisc45',
         data=dict(test=dict(type='ImageFolder', root='data/resisc45/test'))),
    # Folders 3 ... 10 and 0 ... 3.
    dict(type='ZeroShot', name='clevr_counts', names='clevr_count_all', match='order',
         data=dict(test=dict(type='ImageFolder', root='data/clevr_counts/test'))),
    dict(type='ZeroShot', name='kitti_distance', names='kitti_closest_vehicle_distance', match='order',
         data=dict(test=dict(type='ImageFolder', root='data/kitti_distance/test'))),
]
