# python tools/curate.py configs/curation/yfcc_quantile.py
#
# The metadata of YFCC100M by the day that the camera tells, cut so that the photos with a place on Earth are shared out
# evenly; a list of labelled photos cuts by ids='FILE.parquet' in place of where.
stages = [
    dict(type='Metadata', root='data/yfcc100m', files='yfcc100m_dataset*'),
    dict(type='TimeBuckets', by='taken_at', rule=dict(type='Quantile', buckets=11, where='lat IS NOT NULL')),
]
num_workers = 4
