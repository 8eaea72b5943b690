# python tools/train.py configs/fewshot/lwf_cosine_1x256-step-100e_clear10-moco-b0-streaming.py
"""Learning without forgetting, cosine classifier on all moco_b0 features of CLEAR-10, streaming protocol."""
_base_ = ['../clear10/lwf_cosine_1x256-step-100e_moco-b0.py']

scenario = dict(evaluation_protocol='streaming', seed=None)
