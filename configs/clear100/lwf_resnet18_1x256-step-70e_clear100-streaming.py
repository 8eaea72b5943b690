# python tools/train.py configs/clear100/lwf_resnet18_1x256-step-70e_clear100-streaming.py
"""Learning without forgetting, ResNet-18 from scratch on the images of CLEAR-100, streaming protocol."""
_base_ = ['./lwf_resnet18_1x256-step-70e_clear100.py']

scenario = dict(evaluation_protocol='streaming', seed=None)
