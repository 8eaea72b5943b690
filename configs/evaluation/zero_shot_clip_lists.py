# python tools/train.py configs/evaluation/zero_shot_clip_lists.py
# Sets whose names and templates are in CLIP's repository alone: tools/dataset_converters/prompt_tables.py
# writes them to data/prompts/clip.json first (docs/zero_shot.md).
_base_ = ['../_base_/encoders/clip_rn50_pair.py', '../_base_/tasks/zero_shot_clip_lists.py']
runner_type = 'ProbeRunner'
