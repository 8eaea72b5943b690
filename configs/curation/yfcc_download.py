# python tools/curate.py configs/curation/yfcc_download.py
#
# The photos of YFCC100M's metadata with the filters of CLEAR-100: a valid date, 120 pixels, no side more than twice the
# other. 10,000 records a shard; eleven buckets of equal size of those that came. Say who you are: limits.contact.
# From the public store in place of Flickr: --cfg-options stages.1.source.type=MMCommons
stages = [
    dict(type='Metadata', root='data/yfcc100m', files='yfcc100m_dataset*'),
    dict(type='Download', source=dict(type='Web'), min_edge=120, max_aspect_ratio=2.0,
         limits=dict(contact='', connections=128, host_connections=32, host_rate=100.0)),
    dict(type='TimeBuckets', of='images', rule=dict(type='Equal', buckets=11)),
]
num_workers = 4
