# python tools/train.py configs/mmpretrain/vit-base-p16_demo.py
"""mmpretrain's ViT-B/16 for ImageNet on bucket 1 of the digits; only data and schedule are other ones."""
_base_ = ['mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k.py']

_split = 'training_folder/testset_ratio_0.3/split_0/1'
_digits = dict(_delete_=True, type='CustomDataset', data_root='data/demo', ann_file=f'{_split}/train.txt',
               pipeline=[dict(type='LoadImageFromFile'), dict(type='RandomResizedCrop', scale=64),
                         dict(type='PackInputs')])
_test = dict(_digits, ann_file=f'{_split}/test.txt',
             pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=64), dict(type='PackInputs')])
train_dataloader = dict(batch_size=32, num_workers=0, dataset=_digits)
val_dataloader = dict(batch_size=64, num_workers=0, dataset=_test)
test_dataloader = dict(batch_size=64, num_workers=0, dataset=_test)
data_preprocessor = dict(num_classes=10)
# 16 patches: images of 64 px in place of 224.
model = dict(backbone=dict(img_size=64), head=dict(num_classes=10))

train_cfg = dict(max_epochs=4)
param_scheduler = [dict(type='LinearLR', start_factor=1e-3, end=1, convert_to_iter_based=True),
                   dict(type='CosineAnnealingLR', eta_min=1e-5, begin=1)]
auto_scale_lr = dict(enable=True)
