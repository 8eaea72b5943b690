"""Projectors and prototypes of self-supervised methods; mmpretrain's necks are found by their bare names as well."""

from clear.models.necks.dino_head import DINOHead
from clear.models.necks.projection_mlp import ProjectionMLP
from clear.models.necks.prototypes import Prototypes, hold

__all__ = ['DINOHead', 'ProjectionMLP', 'Prototypes', 'hold']
