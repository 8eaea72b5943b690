# python tools/train.py configs/probing/itra_resnet18_demo-b1.py
_base_ = ['../_base_/tasks/itra.py']
runner_type = 'ProbeRunner'

# The probes of earlier systems, on bucket 1 of the demo data and a network with random weights.
encoders = dict(
    random_resnet18=dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32),
                         info=dict(method='random')))
_split = 'data/demo/training_folder/testset_ratio_0.3/split_0/1'
data = dict(train=dict(type='FileList', path=f'{_split}/train.txt', root='data/demo'),
            test=dict(type='FileList', path=f'{_split}/test.txt', root='data/demo'))
threads = 1
