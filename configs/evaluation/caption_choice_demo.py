# python tools/train.py configs/evaluation/caption_choice_demo.py
# Forty digits of the demo, each with its name and another one, by two tiny towers with random weights: chance, 0.5.
runner_type = 'ProbeRunner'
_args = dict(embed_dim=64, vision_cfg=dict(width=96, head_width=32, layers=4, patch_size=4, image_size=32),
             text_cfg=dict(width=64, heads=4, layers=2, context_length=16))
encoders = dict(random=dict(
    image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=_args),
    text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=_args)))
tasks = [dict(type='CaptionChoice', name='digits', data=dict(test=dict(
    type='SugarCrepe', root='data/demo', files='configs/evaluation/demo_choices.json')))]
