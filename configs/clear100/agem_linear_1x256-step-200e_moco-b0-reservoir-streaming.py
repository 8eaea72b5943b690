# python tools/train.py configs/clear100/agem_linear_1x256-step-200e_moco-b0-reservoir-streaming.py
"""A-GEM whose memory is a reservoir, linear on the moco_b0 features of CLEAR-100, streaming protocol."""
_base_ = ['./agem_linear_1x256-step-200e_moco-b0-reservoir.py']

scenario = dict(evaluation_protocol='streaming', seed=None)
