# The demo's digits as pairs: captions are names of the digits in templates. Four buckets to train on; the test images of
# the last are found by zero-shot.
_names = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine']
_templates = ['a photo of the number {}.', 'the digit {}.', 'a handwritten {}.', 'a {}, written by hand.', 'number {}.']
_named = dict(names=_names, templates=_templates)
train_dataloader = dict(batch_size=64, num_workers=0, dataset=dict(
    type='ImageTextPairs',
    images=dict(type='PromptedClassification', **_named,
                images=dict(type='BucketImages', data_root='data/demo', buckets=[0, 1, 2, 3])),
    transform=[dict(type='Resize', size=32), dict(type='ToTensor'),
               dict(type='Normalize', mean=[0.48145466, 0.4578275, 0.40821073],
                    std=[0.26862954, 0.26130258, 0.27577711])]))
custom_hooks = [dict(
    type='TaskHook', at_start=True, tasks=[dict(type='ZeroShot', name='zero_shot', **_named)],
    data=dict(test=dict(type='BucketImages', data_root='data/demo', buckets=[3], split='test')))]
