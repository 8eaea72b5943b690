"""Adapters: a few trained parameters in a frozen network."""

from clear.models.adapters.library import ADAPTERS, MERGEABLE, add_adapter, merged, save_adapter

__all__ = ['ADAPTERS', 'MERGEABLE', 'add_adapter', 'merged', 'save_adapter']
