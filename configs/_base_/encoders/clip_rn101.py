# CLIP's RN101 (Radford et al. 2021, arXiv:2103.00020) with the QuickGELU of OpenAI's weights. These are fetched with
# allow_network=True, unless they are in open_clip's cache; weights='FILE' in place of tag takes a file.
encoder = dict(type='OpenCLIPImageEncoder', arch='RN101-quickgelu', tag='openai')
