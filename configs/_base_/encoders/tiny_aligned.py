# The towers of ../models/alignment/tiny_clip.py, for the weights of a run: encoders.tiny.weights=FILE. Random without.
_args = dict(embed_dim=64, vision_cfg=dict(width=96, head_width=32, layers=4, patch_size=4, image_size=32),
             text_cfg=dict(width=64, heads=4, layers=2, context_length=16))
encoders = dict(tiny=dict(type='AlignedEncoder', weights=None, model=dict(
    type='ImageTextAlignment', loss=dict(type='InfoNCELoss'),
    image_encoder=dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=_args, trainable=True),
    text_encoder=dict(type='OpenCLIPTextEncoder', arch='ViT-B-32', model_args=_args, trainable=True))))
