# python tools/train.py configs/probing/random_resnet18_demo-b1.py
_base_ = ['../_base_/tasks/smoke.py']
runner_type = 'ProbeRunner'

# A network with random weights: what its architecture alone gives. Any trained encoder should beat it.
encoders = dict(
    random_resnet18=dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32),
                         info=dict(method='random')))
# Bucket 1 of the demo data, split 0 of the iid protocol. All buckets show the same digits: never train on one and test
# on another without these lists.
_split = 'data/demo/training_folder/testset_ratio_0.3/split_0/1'
data = dict(train=dict(type='FileList', path=f'{_split}/train.txt', root='data/demo'),
            test=dict(type='FileList', path=f'{_split}/test.txt', root='data/demo'))
threads = 1
