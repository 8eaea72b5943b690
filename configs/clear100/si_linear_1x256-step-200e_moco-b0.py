# python tools/train.py configs/clear100/si_linear_1x256-step-200e_moco-b0.py
"""Synaptic intelligence, linear on the moco_b0 features of CLEAR-100."""
_base_ = ['../_base_/scenarios/clear100_moco-b0.py', '../_base_/models/linear_2048.py', '../_base_/strategies/si.py',
          '../_base_/default_runtime.py']

model = dict(head=dict(num_classes=100))
# As the CLEAR demo: 200 epochs, where CLEAR-10 has 100.
cl_strategy = dict(train_epochs=200)
