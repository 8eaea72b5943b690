# python tools/train.py configs/clear10/naive_resnet50_1x64-step-70e_clear10-streaming.py
"""Fine-tuning, ResNet-50 from scratch on the images of CLEAR-10, streaming protocol."""
_base_ = ['./naive_resnet50_1x64-step-70e_clear10.py']

scenario = dict(evaluation_protocol='streaming', seed=None)
