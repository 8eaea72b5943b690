# python tools/train.py configs/clear10/replay_linear_1x256-step-100e_moco-b0.py
"""Experience replay, linear on the moco_b0 features of CLEAR-10, with one bucket in memory."""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/linear_2048.py',
          '../_base_/strategies/replay.py', '../_base_/default_runtime.py']
