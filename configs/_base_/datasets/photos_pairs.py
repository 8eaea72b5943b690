# Photographs in data/photos/{train,test}/<class>/<image>; captions are the names of their folders in templates. Images
# are as EfficientNet-Lite0 evaluates them at 96 pixels, of which its stride of 32 leaves 3 x 3 cells.
_templates = ['a photo of a {}.', 'a blurry photo of a {}.', 'a low resolution picture of the {}.', 'there is a {}.',
              'a close-up of one {}.', 'a {} in the wild.']
train_dataloader = dict(batch_size=256, num_workers=0, dataset=dict(
    type='ImageTextPairs',
    images=dict(type='PromptedClassification', templates=_templates,
                images=dict(type='ImageFolder', root='data/photos/train')),
    transform=[dict(type='TowerAugment', crop=96, augmentation='none', mean=[0.5] * 3, std=[0.5] * 3)]))
custom_hooks = [dict(
    type='TaskHook', at_start=True, interval=5, data=dict(test=dict(type='ImageFolder', root='data/photos/test')),
    tasks=[dict(type='ZeroShot', name='zero_shot', templates=_templates),
           dict(type='ClassRetrieval', name='class_retrieval', templates=_templates)])]
