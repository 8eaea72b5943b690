"""Projectors, prototypes and heads of pretraining and alignment; mmpretrain's necks have their bare names."""

from clear.models.necks.dino_head import DINOHead, ProtoCLIPHead
from clear.models.necks.projection_mlp import ProjectionMLP
from clear.models.necks.prototypes import Prototypes, hold

__all__ = ['DINOHead', 'ProjectionMLP', 'ProtoCLIPHead', 'Prototypes', 'hold']
