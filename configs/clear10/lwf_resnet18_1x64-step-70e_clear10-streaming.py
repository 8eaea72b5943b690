# python tools/train.py configs/clear10/lwf_resnet18_1x64-step-70e_clear10-streaming.py
"""Learning without forgetting, ResNet-18 from scratch on the images of CLEAR-10, streaming protocol."""
_base_ = ['./lwf_resnet18_1x64-step-70e_clear10.py']

scenario = dict(evaluation_protocol='streaming', seed=None)
