# python tools/curate.py configs/curation/yfcc_years.py
#
# The metadata of YFCC100M by year of upload in UTC, 2004 to 2014.
stages = [
    dict(type='Metadata', root='data/yfcc100m', files='yfcc100m_dataset*'),
    dict(type='TimeBuckets', rule=dict(type='Calendar', every='year', first='2004', last='2014')),
]
num_workers = 4
