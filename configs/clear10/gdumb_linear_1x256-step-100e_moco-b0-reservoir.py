# python tools/train.py configs/clear10/gdumb_linear_1x256-step-100e_moco-b0-reservoir.py
"""Training on a uniform reservoir over CLEAR-10 alone, linear on moco_b0 features.

The benchmark's authors measured with a uniform memory of unknown size, before its release and over five splits,
in_domain 0.900, next_domain 0.892, accuracy 0.906, backward_transfer 0.908, forward_transfer 0.876: a difference of
0.01 is agreement.
"""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/linear_2048.py',
          '../_base_/strategies/reservoir.py', '../_base_/default_runtime.py']
