# python tools/curate.py configs/curation/yfcc_clear10_periods.py
#
# The metadata of YFCC100M in CLEAR-10's eleven periods. The paper's list gives the end of each; a period here begins a
# second behind the one before, but for the last, whose beginning is published.
stages = [
    dict(type='Metadata', root='data/yfcc100m', files='yfcc100m_dataset*'),
    dict(type='TimeBuckets', rule=dict(type='Periods', periods='configs/curation/clear_10_time.json')),
]
num_workers = 4
