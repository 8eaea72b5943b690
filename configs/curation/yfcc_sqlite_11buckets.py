# python tools/curate.py configs/curation/yfcc_sqlite_11buckets.py
#
# As yfcc_metadata_11buckets.py, from the published SQLite table (tools/curation/download_yfcc.py sqlite).
stages = [
    dict(type='Metadata', root='data/yfcc100m_sqlite', files='yfcc100m_dataset.sql'),
    dict(type='TimeBuckets', rule=dict(type='Equal', buckets=11)),
]
num_workers = 4
