# python tools/curate.py configs/curation/retrieve_clear100_rn101.py
#
# CLEAR-100's images from the two files that it was published with: a hundred prompts, of which k, q and the conflict
# rule come too, and the label of each, which names its folder. No background.
stages = [dict(
    type='Retrieval', text_encoder=dict(type='OpenCLIPTextEncoder', arch='RN101-quickgelu', tag='openai'),
    prompts='data/clear100/concept_group_dict.json', label_map='data/clear100/label_map_dict.json')]
inputs = dict(features='work_dirs/features_clip_rn101/stages/features')
work_dir = 'work_dirs/yfcc_clear100'
