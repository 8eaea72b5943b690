# python tools/train.py configs/evaluation/retrieval.py
# Retrieval of images and captions on COCO and Flickr30K; of those that are not in data/ the jobs fail alone
# (docs/retrieval.md).
_base_ = ['../_base_/encoders/clip_rn50_pair.py', '../_base_/tasks/retrieval.py']
runner_type = 'ProbeRunner'
