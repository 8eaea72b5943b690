# python tools/train.py configs/clear10/streaminglda_linear_moco-b0.py
"""Streaming LDA on the moco_b0 features of CLEAR-10: one pass, no optimiser."""
_base_ = ['../_base_/scenarios/clear10_moco-b0.py', '../_base_/models/linear_2048.py',
          '../_base_/strategies/streaming_lda.py', '../_base_/default_runtime.py']
