# python tools/train.py configs/evaluation/retrieval_demo.py
# Retrieval both ways on the demo's digits, by two tiny towers with random weights: chance. Images of a digit share
# their caption, so that the worst case says little, and the mean over the orders of equal ones stands beside it.
_base_ = ['../_base_/encoders/tiny_pair.py']
runner_type = 'ProbeRunner'
_names = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine']
_split = 'data/demo/training_folder/testset_ratio_0.3/split_0/1'
data = dict(test=dict(type='PromptedClassification', names=_names, templates=['the digit {}.'],
                      images=dict(type='FileList', path=f'{_split}/test.txt', root='data/demo')))
tasks = [dict(type='ImageTextRetrieval', name='worst', ks=[1, 5, 10]),
         dict(type='ImageTextRetrieval', name='expected', ks=[1, 5, 10], ties='expected', folds=2),
         dict(type='ClassRetrieval', name='classes', names=_names)]
threads = 1
