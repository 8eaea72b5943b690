# python tools/train.py configs/clear100/replay_linear_1x256-step-200e_moco-b0.py
"""Experience replay, linear on the moco_b0 features of CLEAR-100, with one bucket in memory."""
_base_ = ['../_base_/scenarios/clear100_moco-b0.py', '../_base_/models/linear_2048.py',
          '../_base_/strategies/replay.py', '../_base_/default_runtime.py']

model = dict(head=dict(num_classes=100))
# As the CLEAR demo: 200 epochs, where CLEAR-10 has 100. A bucket has about 10,000 images.
cl_strategy = dict(mem_size=10000, train_epochs=200)
