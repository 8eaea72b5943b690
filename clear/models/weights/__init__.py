"""Weights of any format: reading them, the rules by which names are matched, the packages that bring some."""

from clear.models.weights.download import check_address, is_address, local_weights
from clear.models.weights.load import LoadReport, load_weights
from clear.models.weights.packages import package_weights
from clear.models.weights.rules import HEADS, SOURCES, without_a_place

__all__ = ['HEADS', 'SOURCES', 'LoadReport', 'check_address', 'is_address', 'load_weights', 'local_weights',
           'package_weights', 'without_a_place']
