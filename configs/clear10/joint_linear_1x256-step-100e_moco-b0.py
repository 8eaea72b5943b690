# python tools/train.py configs/clear10/joint_linear_1x256-step-100e_moco-b0.py
"""A linear classifier on the moco_b0 features of all buckets of CLEAR-10 at once: the upper bound."""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/linear_2048.py',
          '../_base_/strategies/joint.py', '../_base_/default_runtime.py']
