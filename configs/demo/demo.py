# python tools/train.py configs/demo/demo.py
"""The image example of the earlier CLEAR demo: ResNet-50 fine-tuned on CLEAR-10, streaming protocol."""
_base_ = ['../clear10/naive_resnet50_1x64-step-70e_clear10-streaming.py']
