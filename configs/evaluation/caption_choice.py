# python tools/train.py configs/evaluation/caption_choice.py
# Winoground and SugarCrepe, as docs/datasets.md says where they lie. Weights are those of OpenAI in open_clip's cache;
# allow_network=True in both towers fetches them, and weights='FILE' in place of tag takes a file.
runner_type = 'ProbeRunner'
encoders = dict(clip_vit_base_p32=dict(
    image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32-quickgelu', tag='openai'),
    text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32-quickgelu', tag='openai')))
tasks = [
    dict(type='CaptionChoice', name='winoground', data=dict(test=dict(type='Winoground', root='data/winoground'))),
    dict(type='CaptionChoice', name='sugar_crepe', data=dict(test=dict(
        type='SugarCrepe', root='data/coco2017/val2017', files='data/sugar_crepe'))),
]
