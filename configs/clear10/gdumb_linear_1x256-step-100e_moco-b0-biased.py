# python tools/train.py configs/clear10/gdumb_linear_1x256-step-100e_moco-b0-biased.py
"""Training on a biased reservoir over CLEAR-10 alone, linear on moco_b0 features.

A new sample enters with twice the probability of a uniform reservoir (a value of the authors' grid): expect between
the uniform one and fine-tuning.
"""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/linear_2048.py',
          '../_base_/strategies/biased_reservoir.py', '../_base_/default_runtime.py']

cl_strategy = dict(buffer=dict(alpha_mode='Fixed', alpha_value=2.0))
