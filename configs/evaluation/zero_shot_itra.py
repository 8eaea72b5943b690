# python tools/train.py configs/evaluation/zero_shot_itra.py
# Zero-shot classification as ITRA averages prompts, on its sets.
_base_ = ['../_base_/encoders/clip_rn50_pair.py', '../_base_/tasks/zero_shot_itra.py']
runner_type = 'ProbeRunner'
