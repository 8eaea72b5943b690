# python tools/train.py configs/alignment/continual_clip-finetune_tiny-vit_1xb64-cos-6e_demo.py
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# CLIP through five time buckets of the demo's pairs, each from the weights of the one before: Sequential of TiC-CLIP
# (Garg et al. 2023, arXiv:2310.16226). The digits turn by 50 degrees from the first bucket to the last.
_buckets = [0, 2, 4, 7, 9]
_names = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine']
_test = dict(type='PromptedClassification', names=_names, templates=['the digit {}.'],
             images=dict(type='BucketImages', data_root='data/demo', buckets=_buckets, split='test'))
stream = dict(
    buckets=['1', '3', '5', '8', '10'], mode='finetune',
    # On every bucket after each. Digits share their captions, so that an image is one of fifty that fit its caption.
    evaluation=dict(data=dict(test=_test), tasks=[
        dict(type='ZeroShot', name='zero_shot', names=_names, templates=['a photo of the number {}.', 'the digit {}.']),
        dict(type='ImageTextRetrieval', name='retrieval', ks=[50, 100], ties='expected')]))
# As many iterations in every bucket, whatever is replayed (TiC-CLIP): an epoch draws as many pairs as a bucket has.
train_dataloader = dict(dataset=dict(images=dict(images=dict(buckets=_buckets))),
                        sampler=dict(type='EpisodicSampler', episode_size=1262),
                        batch_sampler=dict(type='GlobalBatchSampler', drop_last=True),
                        collate_fn=dict(type='default_collate'))
# Larger patches than the base's: one bucket is enough to learn from, in a quarter of a minute of a core.
_args = dict(embed_dim=64, vision_cfg=dict(width=64, head_width=32, layers=3, patch_size=8, image_size=32),
             text_cfg=dict(width=64, heads=4, layers=2, context_length=16))
model = dict(image_encoder=dict(model_args=_args), text_encoder=dict(model_args=_args))
custom_hooks = []
train_cfg = dict(max_epochs=6)  # of each bucket
param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
                   dict(type='CosineAnnealingLR', by_epoch=True, begin=1, end=6, T_max=5, convert_to_iter_based=True)]
