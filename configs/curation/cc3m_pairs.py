# python tools/curate.py configs/curation/cc3m_pairs.py
#
# Conceptual Captions: lists of captions and addresses, fetched into shards that WebDatasetPairs reads, e.g.
# shards='work_dirs/cc3m_pairs/stages/train/shards/*/images.tar'. Limits as the earlier collector had them: 20 s, and no
# image whose longer side is more than three times the shorter. Many of the addresses are dead by now.
fetching = dict(type='Download', valid_dates=False, max_aspect_ratio=3.0, max_failed=0.5, limits=dict(total_s=20.0))
captions = dict(type='UrlList', root='data/cc3m', columns=['caption', 'url'])
stages = [
    dict(captions, name='train_urls', files='Train_GCC-training.tsv'),
    dict(fetching, name='train'),
    dict(captions, name='val_urls', files='Validation_GCC-1.1.0-Validation.tsv'),
    dict(fetching, name='val'),
]
num_workers = 2
