"""Backbones of ours; mmpretrain's are found by their bare names as well."""

from clear.models.backbones.adaptformer import AdaptFormer
from clear.models.backbones.fan import FAN

__all__ = ['FAN', 'AdaptFormer']
