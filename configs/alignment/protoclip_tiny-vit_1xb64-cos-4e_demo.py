# python tools/train.py configs/alignment/protoclip_tiny-vit_1xb64-cos-4e_demo.py
_base_ = ['../_base_/models/alignment/tiny_clip.py', '../_base_/datasets/demo_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_demo.py']

# ProtoCLIP (Chen et al. 2022, arXiv:2206.10996) in four episodes: InfoNCE alone, two with prototypes, and a last one
# with a locked image tower.
model = dict(type='ProtoCLIP', target_temperature=0.01,
             projection=dict(type='ProtoCLIPHead', out_channels=32, hidden_channels=256))
train_dataloader = dict(sampler=dict(type='EpisodicSampler', episode_size=4096),
                        batch_sampler=dict(type='GlobalBatchSampler', drop_last=True),
                        collate_fn=dict(type='default_collate'))
default_hooks = dict(prototypes=dict(type='PrototypeHook', num_clusters=50, restarts=3, back_translation=True,
                                     warmup_epochs=1, lit_start_epoch=4),
                     figures=dict(type='ClusterFiguresHook', interval=2, map_rows=1000))
optim_wrapper = dict(paramwise_cfg=dict(two_rates=True))
param_scheduler = [dict(type='TwoRateCosineLR', warmup=64, by_epoch=True, T_max=4, image_end=3,
                        convert_to_iter_based=True)]
