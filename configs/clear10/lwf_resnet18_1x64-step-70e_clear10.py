# python tools/train.py configs/clear10/lwf_resnet18_1x64-step-70e_clear10.py
"""Learning without forgetting, ResNet-18 from scratch on the images of CLEAR-10."""
_base_ = ['../_base_/scenarios/clear10.py', '../_base_/models/resnet18.py', '../_base_/strategies/lwf.py',
          '../_base_/default_runtime.py']

# The image baselines of the CLEAR demo: lr 0.01, decayed every 30 of 70 epochs, batch 64.
num_workers = 4
cl_strategy = dict(train_mb_size=64, train_epochs=70, optimizer=dict(lr=0.01, weight_decay=1e-5),
                   scheduler=dict(step_size=30))
