# bash tools/dist_train.sh configs/alignment/protoclip_rn50_8xb64-cos-400e_cc3m.py 8
_base_ = ['../_base_/models/alignment/clip_rn50.py', '../_base_/datasets/cc3m_pairs.py',
          '../_base_/schedules/adamw_cos_pairs_32e.py']

# ProtoCLIP (Chen et al. 2022, arXiv:2206.10996), the published command: 400 episodes of 200,000 of 2.5 million pairs,
# as many iterations as 32 epochs of all. It needs features of a language model for every caption: docs/protoclip.md.
model = dict(type='ProtoCLIP', image_encoder=dict(quick_gelu=True), text_encoder=dict(quick_gelu=True),
             projection=dict(type='ProtoCLIPHead', out_channels=128, hidden_channels=2048, num_layers=1),
             align_weight=1.0, proto_weight=1.0, external_weight=1.0, target_temperature=0.01)
train_dataloader = dict(
    num_workers=16, sampler=dict(type='EpisodicSampler', episode_size=200_000),
    batch_sampler=dict(type='GlobalBatchSampler', drop_last=True), collate_fn=dict(type='default_collate'),
    dataset=dict(images=dict(max_rows=2_500_000),
                 transform=[dict(type='TowerAugment', crop=224, augmentation='light')]))
default_hooks = dict(
    prototypes=dict(type='PrototypeHook', num_clusters=20_000, max_iter=20, restarts=3, back_translation=True,
                    external_teacher='data/cc3m/roberta_pca64.npy', warmup_epochs=1, lit_start_epoch=399),
    figures=dict(type='ClusterFiguresHook', interval=50), checkpoint=dict(interval=50))
optim_wrapper = dict(paramwise_cfg=dict(two_rates=True), clip_grad=dict(max_norm=10.0),
                     optimizer=dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.5))
param_scheduler = [dict(type='TwoRateCosineLR', warmup=15_625, by_epoch=True, T_max=400, image_end=398,
                        convert_to_iter_based=True)]
train_cfg = dict(max_epochs=400)
