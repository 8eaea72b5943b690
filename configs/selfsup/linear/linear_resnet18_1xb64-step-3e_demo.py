# python tools/train.py configs/selfsup/linear/linear_resnet18_1xb64-step-3e_demo.py
_base_ = ['./linear_resnet50_8xb32-step-100e_imagenet.py']

# MoCo's linear evaluation, sized for two CPU cores: bucket 1 of the demo data, split 0, 32 pixels, a network with
# random weights. Trained ones: --cfg-options load_from=work_dirs/.../latest.pth.
_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=32, edge='short', backend='pillow'),
    dict(type='PackInputs')]
_split = 'training_folder/testset_ratio_0.3/split_0/1'
# Half the channels of a ResNet-18, as the demo pretraining has.
model = dict(backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=32, base_channels=32, strides=(2, 2, 2, 2)),
             head=dict(num_classes=10, in_channels=256))
# lr: ours; random features are of another scale than trained ones.
optim_wrapper = dict(optimizer=dict(lr=1.0))
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[1, 2], gamma=0.1)]
train_cfg = dict(max_epochs=3)
train_dataloader = dict(
    batch_size=64, num_workers=0, persistent_workers=False,
    dataset=dict(_delete_=True, type='CustomDataset', data_root='data/demo', ann_file=f'{_split}/train.txt',
                 pipeline=_pipeline))
val_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(_delete_=True, type='CustomDataset', data_root='data/demo', ann_file=f'{_split}/test.txt',
                 pipeline=_pipeline))
load_from = None
threads = 1
