# Both towers of CLIP's RN50 (Radford et al. 2021, arXiv:2103.00020). Weights are those of OpenAI in open_clip's cache;
# allow_network=True in both fetches them, and weights='FILE' in place of tag takes a file.
encoders = dict(clip_rn50=dict(
    image_encoder=dict(type='OpenCLIPImageEncoder', arch='RN50-quickgelu', tag='openai'),
    text_encoder=dict(type='OpenCLIPTextEncoder', arch='RN50-quickgelu', tag='openai')))
