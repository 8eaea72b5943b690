# python tools/curate.py configs/curation/yfcc_metadata_11buckets.py
#
# The metadata of YFCC100M as typed tables, cut into eleven buckets of equal size by upload time, as CLEAR-100 was.
stages = [
    dict(type='Metadata', root='data/yfcc100m', files='yfcc100m_dataset*'),
    dict(type='TimeBuckets', rule=dict(type='Equal', buckets=11)),
]
num_workers = 4
