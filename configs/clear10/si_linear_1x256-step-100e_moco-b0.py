# python tools/train.py configs/clear10/si_linear_1x256-step-100e_moco-b0.py
"""Synaptic intelligence, linear on the moco_b0 features of CLEAR-10."""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/linear_2048.py', '../_base_/strategies/si.py',
          '../_base_/default_runtime.py']
