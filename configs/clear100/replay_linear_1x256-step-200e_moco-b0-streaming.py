# python tools/train.py configs/clear100/replay_linear_1x256-step-200e_moco-b0-streaming.py
"""Experience replay, linear on the moco_b0 features of CLEAR-100, with one bucket in memory, streaming protocol."""
_base_ = ['./replay_linear_1x256-step-200e_moco-b0.py']

scenario = dict(evaluation_protocol='streaming', seed=None)
