# python tools/train.py configs/selfsup/mocov2_resnet18_1xb64-cos-1e_curated-b0.py
_base_ = ['../_base_/models/selfsup/mocov2_resnet18-32px.py', '../_base_/schedules/sgd_cos_demo.py']

# The earliest bucket of a curation, straight from the shards that it has fetched: nothing is unpacked or copied.
_stages = 'work_dirs/curation_demo/stages'
train_dataloader = dict(batch_size=64, num_workers=0, dataset=dict(
    type='CuratedImages', stage=f'{_stages}/download', buckets=f'{_stages}/time_buckets', bucket=0, image_size=64))
model = dict(queue_size=256)
train_cfg = dict(max_epochs=1)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, T_max=1, convert_to_iter_based=True)]
