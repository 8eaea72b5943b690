# Every task on text alone, on the files that docs/text.md names. A task whose files are absent fails alone.
_senteval = 'data/text/downstream'
tasks = [
    dict(type='SentenceSimilarity', name='sts-b-dev', dataset='sts-b', root='data/text', split='dev'),
    dict(type='SentenceSimilarity', name='sts-b-test', dataset='sts-b', root='data/text'),
    # SimCSE's and ITRA's seven sets: over all pairs of a year at once, then the mean of the sets.
    dict(type='SentenceSimilarity', name='sts', root=_senteval,
         dataset=['sts12', 'sts13', 'sts14', 'sts15', 'sts16', 'sts-b', 'sick-r']),
    dict(type='SentenceSimilarity', name='sts-coco', path='data/text/STS_coco_val2017.csv'),
    # ITRA compares words in the 80 templates of ImageNet, each as a row of its own: prompting='rows'.
    *[dict(type='WordSimilarity', name=name, dataset=name, root='data/text/words', prompting='average')
      for name in ('rg65', 'simlex999', 'wordsim353')],
    dict(type='Triplets', name='wiki-sections', path='data/text/wikipedia-sections/test.csv'),
    # 8.8 million passages: hours. corpus_max_size=100_000 is easier, so its numbers are not to be compared.
    dict(type='PassageRetrieval', name='ms-marco', root='data/text/msmarco', cache='banks/msmarco'),
    *[dict(type='TextLinearProbe', name=name, dataset=name, root=_senteval)
      for name in ('mr', 'cr', 'subj', 'mpqa', 'sst2', 'sst5', 'trec', 'mrpc', 'sick-e')],
    # ITRA cuts captions at 120 characters.
    dict(type='TextLinearProbe', name='imagenet-captions', max_chars=120,
         train=[f'data/text/imagenet_captions/train_{shard}.csv' for shard in range(8)],
         test='data/text/imagenet_captions/test.csv', probe=dict(type='LinearProbe', scale='none', epochs=20)),
]
