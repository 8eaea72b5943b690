# Two towers of open_clip's classes with random weights, small enough for a CPU: chance.
_args = dict(embed_dim=64, vision_cfg=dict(width=96, head_width=32, layers=4, patch_size=4, image_size=32),
             text_cfg=dict(width=64, heads=4, layers=2, context_length=16))
encoders = dict(random=dict(
    image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=_args),
    text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=_args)))
