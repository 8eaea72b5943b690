# python tools/train.py configs/evaluation/zero_shot_demo.py
# The demo's digits by two tiny towers with random weights: chance, 0.1. A pair that was trained on them, seconds more:
# --cfg-options encoders.trained.run=work_dirs/clip (docs/zero_shot.md).
runner_type = 'ProbeRunner'
_args = dict(embed_dim=64, vision_cfg=dict(width=96, head_width=32, layers=4, patch_size=4, image_size=32),
             text_cfg=dict(width=64, heads=4, layers=2, context_length=16))
encoders = dict(random=dict(
    image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=_args),
    text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=_args)))
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
