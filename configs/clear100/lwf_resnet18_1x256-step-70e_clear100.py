# python tools/train.py configs/clear100/lwf_resnet18_1x256-step-70e_clear100.py
"""Learning without forgetting, ResNet-18 from scratch on the images of CLEAR-100."""
_base_ = ['../_base_/scenarios/clear100.py', '../_base_/models/resnet18.py', '../_base_/strategies/lwf.py',
          '../_base_/default_runtime.py']

# The image baselines of the CLEAR demo: lr 0.01, decayed every 30 of 70 epochs, batch 256.
# Eleven values, because the release of the CVPR 2022 challenge has buckets 0 ... 10.
num_workers = 4
scenario = dict(data_name='clear100_cvpr2022', data_root='data/clear100_cvpr2022')
model = dict(head=dict(num_classes=100))
cl_strategy = dict(
    alpha=[0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0],
    train_mb_size=256, train_epochs=70, optimizer=dict(lr=0.01, weight_decay=1e-5), scheduler=dict(step_size=30))
