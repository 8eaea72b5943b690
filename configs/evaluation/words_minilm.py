# python tools/train.py configs/evaluation/words_minilm.py
# The demo's words alone and in the 80 templates of ImageNet, as their mean and as rows (ITRA): 220,000 short texts,
# some 25 minutes of one CPU core. The numbers are in docs/text.md.
_base_ = ['./language_demo.py']
tasks = [dict(type='WordSimilarity', name=f'{name}_{prompting}', dataset=name, root='package:gensim',
              prompting=prompting)
         for name in ('wordsim353', 'simlex999') for prompting in ('none', 'average', 'rows')]
