# python tools/train.py configs/probing/alignment_over_time_demo.py
# Image-text towers of every time on every bucket of the demo data, by text and by a probe. As shipped there are only
# towers with random weights; give it the folder of a run of configs/alignment/continual_clip-*_demo.py:
#   --cfg-options checkpoints=work_dirs/continual_clip-finetune_tiny-vit_1xb64-cos-6e_demo
runner_type = 'OverTimeRunner'
_args = dict(embed_dim=64, vision_cfg=dict(width=64, head_width=32, layers=3, patch_size=8, image_size=32),
             text_cfg=dict(width=64, heads=4, layers=2, context_length=16))
encoder = dict(type='AlignedEncoder', model=dict(
    type='ImageTextAlignment', loss=dict(type='InfoNCELoss'),
    image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=_args, trainable=True),
    text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=_args, trainable=True)))
checkpoints = [dict(path=None, name='random')]
_names = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine']
# Images that the towers have not been trained on: a tenth for the probe to learn from.
data = dict(type='PromptedClassification', names=_names, templates=['the digit {}.'], seed=0, test_ratio=0.9,
            images=dict(type='BucketImages', data_root='data/demo', buckets=[0, 2, 4, 7, 9], split='test'))
tasks = [dict(type='ZeroShot', name='zero_shot', names=_names,
              templates=['a photo of the number {}.', 'the digit {}.']),
         dict(type='ImageTextRetrieval', name='retrieval', ks=[50, 100], ties='expected'), dict(type='KNN', k=5)]
protocols = ['probe_per_bucket']
threads = 1
