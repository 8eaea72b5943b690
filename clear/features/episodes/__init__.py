"""Episodes of pairs: their features, the clusters that these fall into, and the hook that trains on them."""

from clear.features.episodes.hook import PrototypeHook

__all__ = ['PrototypeHook']
