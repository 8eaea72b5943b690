# python tools/curate.py configs/curation/yfcc_side_files.py
#
# The metadata of YFCC100M with what the files beside it say: tags of a network, EXIF, hashes, and line numbers; as
# unpacked by tools/curation/download_yfcc.py archives.
stages = [
    dict(type='Metadata', root='data/yfcc100m_archives', files='yfcc100m_dataset'),
    dict(type='SideFiles', root='data/yfcc100m_archives', autotags='yfcc100m_autotags-v1', exif='yfcc100m_exif',
         hash='yfcc100m_hash', lines='yfcc100m_lines'),
    dict(type='TimeBuckets', rule=dict(type='Equal', buckets=11)),
]
num_workers = 4
