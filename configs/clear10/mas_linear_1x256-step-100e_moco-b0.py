# python tools/train.py configs/clear10/mas_linear_1x256-step-100e_moco-b0.py
"""Memory-aware synapses, linear on the moco_b0 features of CLEAR-10."""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/linear_2048.py', '../_base_/strategies/mas.py',
          '../_base_/default_runtime.py']

# Ours, not tuned: features of stored encoders may be longer than those that the base was tried on.
cl_strategy = dict(optimizer=dict(lr=0.1))
