# python tools/train.py configs/clear10/ranpac_linear_moco-b0.py
"""RanPAC on the moco_b0 features of CLEAR-10: ridge regression on random projections, one pass."""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/strategies/ranpac.py', '../_base_/default_runtime.py']

# 4000 projections instead of the paper's 10000: 0.4 GB instead of 2.4, and minutes on a CPU.
model = dict(head=dict(type='RandomProjectionHead', num_classes=11, in_channels=2048, dim=4000))
