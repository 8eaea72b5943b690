"""Weights of any format: reading them, the rules by which names are matched, the packages that bring some."""

from clear.models.weights.load import LoadReport, load_weights
from clear.models.weights.packages import package_weights
from clear.models.weights.rules import HEADS, SOURCES, without_a_place

__all__ = ['HEADS', 'SOURCES', 'LoadReport', 'load_weights', 'package_weights', 'without_a_place']
