# python tools/train.py configs/clear10/gdumb_linear_1x256-step-100e_moco-b0-br-finetune-streaming.py
"""Fine-tuning by a biased reservoir, linear on the moco_b0 features of CLEAR-10, streaming protocol."""
_base_ = ['./gdumb_linear_1x256-step-100e_moco-b0-br-finetune.py']

scenario = dict(evaluation_protocol='streaming', seed=None)
# Whole buckets are trained on, so one bucket is 3300 images.
cl_strategy = dict(buffer=dict(max_size=3300))
