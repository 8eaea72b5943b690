# python tools/train.py configs/alignment/clip-episodic_tiny-vit_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# CLIP in episodes: an epoch is a number of draws with replacement from all pairs (ITRA, ProtoCLIP).
train_dataloader = dict(sampler=dict(type='EpisodicSampler', episode_size=4096),
                        batch_sampler=dict(type='GlobalBatchSampler', drop_last=True),
                        collate_fn=dict(type='default_collate'))
