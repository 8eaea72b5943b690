# python tools/train.py configs/clear10/erace_linear_1x256-step-100e_moco-b0.py
"""ER-ACE, linear on the moco_b0 features of CLEAR-10.

Nearly every batch has all classes, so its loss masks none: expect what replay gives.
"""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/linear_2048.py',
          '../_base_/strategies/er_ace.py', '../_base_/default_runtime.py']
