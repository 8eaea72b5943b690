# python tools/train.py configs/clear100/si_linear_1x256-step-200e_moco-b0-streaming.py
"""Synaptic intelligence, linear on the moco_b0 features of CLEAR-100, streaming protocol."""
_base_ = ['./si_linear_1x256-step-200e_moco-b0.py']

scenario = dict(evaluation_protocol='streaming', seed=None)
