# python tools/train.py configs/clear100/lwf_linear_1x256-step-200e_moco-b0.py
"""Learning without forgetting, linear on the moco_b0 features of CLEAR-100."""
_base_ = ['../_base_/scenarios/clear100_moco-b0.py', '../_base_/models/linear_2048.py',
          '../_base_/strategies/lwf.py', '../_base_/default_runtime.py']

model = dict(head=dict(num_classes=100))
# As the CLEAR demo: 200 epochs, where CLEAR-10 has 100. alpha grows from 0 to 2 over eleven buckets.
cl_strategy = dict(
    alpha=[0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0],
    train_epochs=200)
