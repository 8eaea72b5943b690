# python tools/train.py configs/evaluation/zero_shot.py
# Zero-shot classification on two dozen sets; of those that are not in data/ the jobs fail alone (docs/zero_shot.md).
_base_ = ['../_base_/encoders/clip_rn50_pair.py', '../_base_/tasks/zero_shot.py']
runner_type = 'ProbeRunner'
