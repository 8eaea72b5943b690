# python tools/train.py configs/clear10/replay_resnet18_1x64-step-70e_clear10-streaming.py
"""Experience replay, ResNet-18 from scratch on the images of CLEAR-10, streaming protocol."""
_base_ = ['./replay_resnet18_1x64-step-70e_clear10.py']

scenario = dict(evaluation_protocol='streaming', seed=None)
