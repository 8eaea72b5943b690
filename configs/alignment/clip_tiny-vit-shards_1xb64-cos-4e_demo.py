# python tools/train.py configs/alignment/clip_tiny-vit-shards_1xb64-cos-4e_demo.py
# and before it, once:
# python tools/dataset_converters/make_shards.py configs/_base_/datasets/demo_pairs.py data/demo_shards --shuffle 0
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# CLIP from tar shards of the demo's pairs, by two workers, each of which reads its shards one after another.
train_dataloader = dict(
    num_workers=2, sampler=dict(type='ShardSampler', buffer_size=500),
    dataset=dict(_delete_=True, type='WebDatasetPairs', shards='data/demo_shards',
                 transform={{_base_.train_dataloader.dataset.transform}}))
