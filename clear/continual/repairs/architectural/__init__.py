"""Avalanche's methods with networks of their own: columns, masks, generators, embeddings, mended."""

from clear.continual.repairs.architectural.architectures import AR1, CWRStar, CWRStarPlugin, PackNet, PNNStrategy
from clear.continual.repairs.architectural.embeddings import SCR, CoPE, CoPEPlugin, LearningToPrompt
from clear.continual.repairs.architectural.generators import (
    AETraining,
    ExpertGatePlugin,
    ExpertGateStrategy,
    GenerativeReplay,
    GenerativeReplayPlugin,
    VAETraining,
)
from clear.continual.repairs.architectural.heads import IncrementalClassifier, MultiHeadClassifier

__all__ = ['AETraining', 'AR1', 'CWRStar', 'CWRStarPlugin', 'CoPE', 'CoPEPlugin', 'ExpertGatePlugin',
           'ExpertGateStrategy', 'GenerativeReplay', 'GenerativeReplayPlugin', 'IncrementalClassifier',
           'LearningToPrompt', 'MultiHeadClassifier', 'PNNStrategy', 'PackNet', 'SCR', 'VAETraining']
