# python tools/train.py configs/alignment/continual_clip-finetune_tiny-vit_1xb64-cos-2e_demo.py
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# CLIP through five time buckets of the demo's pairs, each from the weights of the one before: Sequential of TiC-CLIP
# (Garg et al. 2023, arXiv:2310.16226).
_names = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine']
_test = dict(type='PromptedClassification', names=_names, templates=['the digit {}.'],
             images=dict(type='BucketImages', data_root='data/demo', buckets=[0, 1, 2, 3, 4], split='test'))
stream = dict(
    buckets=['1', '2', '3', '4', '5'], mode='finetune',
    # On every bucket after each. Digits share their captions, so that an image is one of fifty that fit its caption.
    evaluation=dict(data=dict(test=_test), tasks=[
        dict(type='ZeroShot', name='zero_shot', names=_names, templates=['a photo of the number {}.', 'the digit {}.']),
        dict(type='ImageTextRetrieval', name='retrieval', ks=[50, 100])]))
train_dataloader = dict(dataset=dict(images=dict(images=dict(buckets=[0, 1, 2, 3, 4]))))
custom_hooks = []
train_cfg = dict(max_epochs=2)  # of each bucket
param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
                   dict(type='CosineAnnealingLR', by_epoch=True, begin=1, end=2, T_max=1, convert_to_iter_based=True)]
