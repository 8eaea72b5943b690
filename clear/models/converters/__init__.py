"""Formats of weight files: their names of tensors, and the packages that bring some."""

from clear.models.converters.packages import package_weights
from clear.models.converters.rules import HEADS, SOURCES, without_a_place

__all__ = ['HEADS', 'SOURCES', 'package_weights', 'without_a_place']
