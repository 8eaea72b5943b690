# python tools/train.py configs/clear10/naive_linear_1x256-const-10e_moco-b0-adamw-streaming.py
"""Fine-tuning a linear classifier on the moco_b0 features of CLEAR-10 with AdamW, streaming protocol."""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/linear_2048.py',
          '../_base_/strategies/naive.py', '../_base_/default_runtime.py']

scenario = dict(evaluation_protocol='streaming', seed=None)
# The feature example of the CLEAR demo: 5e-4 for a batch of 512. Its schedule began to decay after the last epoch.
cl_strategy = dict(
    train_epochs=10, scheduler=None,
    optimizer=dict(_delete_=True, type='AdamW', lr=2.5e-4, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999)))
