# python tools/train.py configs/evaluation/zero_shot_demo.py
# The demo's digits by two tiny towers with random weights: chance, 0.1. A pair that was trained on them, seconds more:
# --cfg-options encoders.trained.run=work_dirs/clip (docs/zero_shot.md).
_base_ = ['../_base_/encoders/tiny_pair.py']
runner_type = 'ProbeRunner'
data = dict(test=dict(type='BucketImages', data_root='data/demo', buckets=[3], split='test'))
# The data call their classes zero, one, ...
_five = ['a photo of the number {}.', 'the digit {}.', 'a handwritten {}.', 'a {}, written by hand.', 'number {}.']
tasks = [
    dict(type='ZeroShot', name='one_template', templates=['a photo of the number {}.']),
    dict(type='ZeroShot', name='five_templates', templates=_five),
    dict(type='ZeroShot', name='five_raw', templates=_five, prompt_average='raw'),
    dict(type='ZeroShot', name='six_of_svhn', names='svhn'),
    # In figures: a photo of the number: "3".
    dict(type='ZeroShot', name='mnist', names='mnist', match='order'),
    dict(type='ClassRetrieval', name='class_retrieval', templates=_five),
]
