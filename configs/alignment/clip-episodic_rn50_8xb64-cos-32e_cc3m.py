# bash tools/dist_train.sh configs/alignment/clip-episodic_rn50_8xb64-cos-32e_cc3m.py 8
_base_ = ['../_base_/models/alignment/clip_rn50.py', '../_base_/datasets/cc3m_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_32e.py']

# CLIP in episodes: an epoch is a number of draws with replacement from all pairs (ITRA, ProtoCLIP).
train_dataloader = dict(sampler=dict(type='EpisodicSampler', episode_size=200_000),
                        batch_sampler=dict(type='GlobalBatchSampler', drop_last=True),
                        collate_fn=dict(type='default_collate'))
