# python tools/curate.py configs/curation/yfcc_json_11buckets.py
#
# As yfcc_metadata_11buckets.py, from lines of JSON: 4,096 packed files, by the first three figures of the hash.
stages = [
    dict(type='Metadata', root='data/yfcc100m_json', files='*.gz'),
    dict(type='TimeBuckets', rule=dict(type='Equal', buckets=11)),
]
num_workers = 4
