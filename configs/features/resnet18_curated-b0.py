# python tools/extract_features.py configs/features/resnet18_curated-b0.py
# Random features of the earliest bucket of a curation, straight from the shards that it has fetched.
threads = 1
encoder = dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=64, crop=64))
_stages = 'work_dirs/curation_demo/stages'
data = dict(type='CuratedImages', stage=f'{_stages}/download', buckets=f'{_stages}/time_buckets', bucket=0)
batch_size = 64
