# python tools/train.py configs/probing/representation_over_time_demo.py
# An encoder of every time on every bucket of the demo data. As shipped there is only the network with random weights,
# that of the pretraining recipes configs/selfsup/continual_*_demo.py; give it the folder of such a run:
#   --cfg-options checkpoints=work_dirs/continual_mocov2-finetune_resnet18_1xb64-cos-2e_demo
runner_type = 'OverTimeRunner'
encoder = dict(type='MMPretrainEncoder', neck=dict(type='GlobalAveragePooling'), preprocess=dict(resize=32, crop=32),
               backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=32, base_channels=32,
                             strides=(2, 2, 2, 2)))
checkpoints = [dict(path=None, name='random')]  # dict(path='epoch_100.pth', through='1'), ...
data = dict(type='CLEAR', data_root='data/demo', data_name='demo', seed=0)
# k and temperature of DINO's evaluation (arXiv:2104.14294); one rate, so no validation rows are set aside.
tasks = [dict(type='KNN', k=20, temperature=0.07), dict(type='LinearProbe', lrs=[0.1], seeds=1, epochs=30)]
protocols = ['probe_per_bucket', 'probe_of_own_bucket']
threads = 1
