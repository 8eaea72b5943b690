# python tools/train.py configs/evaluation/retrieval_demo.py
# Retrieval both ways on the demo's digits, by two tiny towers with random weights: chance. Images of a digit share
# their caption, so that the worst case says little, and the mean over the orders of equal ones stands beside it.
runner_type = 'ProbeRunner'
_args = dict(embed_dim=64, vision_cfg=dict(width=96, head_width=32, layers=4, patch_size=4, image_size=32),
             text_cfg=dict(width=64, heads=4, layers=2, context_length=16))
encoders = dict(random=dict(
    image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=_args),
    text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=_args)))
_names = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine']
_split = 'data/demo/training_folder/testset_ratio_0.3/split_0/1'
data = dict(test=dict(type='PromptedClassification', names=_names, templates=['the digit {}.'],
                      images=dict(type='FileList', path=f'{_split}/test.txt', root='data/demo')))
tasks = [dict(type='ImageTextRetrieval', name='worst', ks=[1, 5, 10]),
         dict(type='ImageTextRetrieval', name='expected', ks=[1, 5, 10], ties='expected', folds=2),
         dict(type='ClassRetrieval', name='classes', names=_names)]
threads = 1
