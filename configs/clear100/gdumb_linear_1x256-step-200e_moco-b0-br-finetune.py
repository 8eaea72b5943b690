# python tools/train.py configs/clear100/gdumb_linear_1x256-step-200e_moco-b0-br-finetune.py
"""Fine-tuning by a biased reservoir, linear on the moco_b0 features of CLEAR-100."""
_base_ = ['../_base_/scenarios/clear100_moco-b0.py', '../_base_/models/linear_2048.py',
          '../_base_/strategies/biased_reservoir.py', '../_base_/default_runtime.py']

model = dict(head=dict(num_classes=100))
# As the CLEAR demo: 200 epochs, where CLEAR-10 has 100.
# 70 % of the 10,000 images of a bucket are for training: what is larger would keep some of the past.
cl_strategy = dict(buffer=dict(max_size=7000), train_epochs=200)
