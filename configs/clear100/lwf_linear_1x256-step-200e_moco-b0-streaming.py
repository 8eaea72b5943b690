# python tools/train.py configs/clear100/lwf_linear_1x256-step-200e_moco-b0-streaming.py
"""Learning without forgetting, linear on the moco_b0 features of CLEAR-100, streaming protocol."""
_base_ = ['./lwf_linear_1x256-step-200e_moco-b0.py']

scenario = dict(evaluation_protocol='streaming', seed=None)
