# open_clip's RN50 pair with random weights.
model = dict(
    type='ImageTextAlignment', loss=dict(type='InfoNCELoss'),
    image_encoder=dict(type='OpenCLIPImageEncoder', arch='RN50', trainable=True),
    text_encoder=dict(type='OpenCLIPTextEncoder', arch='RN50', trainable=True))
