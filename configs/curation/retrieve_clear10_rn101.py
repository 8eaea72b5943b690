# python tools/curate.py configs/curation/retrieve_clear10_rn101.py
#
# CLEAR-10's images: ten classes by CLIP's RN101, each image in the class that it is most like, and a background of what
# is least like any. The features are those of features_clip_rn101.py; --cfg-options
# stages.0.text_encoder.allow_network=True has OpenAI's weights fetched.
stages = [dict(
    type='Retrieval', text_encoder=dict(type='OpenCLIPTextEncoder', arch='RN101-quickgelu', tag='openai'),
    prompts=['laptop', 'camera', 'bus', 'sweater', 'dress', 'racing', 'hockey', 'cosplay', 'baseball', 'soccer'],
    k=300,  # as the published config; its README says 600
    q=16000, conflict='argmax', background=True, negative_ratio=0.1)]
inputs = dict(features='work_dirs/features_clip_rn101/stages/features')
work_dir = 'work_dirs/yfcc_clear10'
