"""The random numbers of faiss's k-means (Mersenne twister, 32 bits), so that torch begins and splits where it does."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clear.features.kmeans.lloyd import cluster_means

_LARGEST = 2**32 - 1
_SPLIT_SEED = 1234
_SPLIT_BY = 1 / 1024


class Words:
    """32-bit words of a Mersenne twister, which can be looked at before they are used up."""

    def __init__(self, seed: int):
        self._generator = np.random.RandomState(seed % 2**32)
        self._waiting = np.empty(0, dtype='<u4')

    def peek(self, count: int) -> np.ndarray:
        """The next words; they stay."""
        missing = count - len(self._waiting)
        if missing > 0:
            fresh = np.frombuffer(self._generator.bytes(4 * missing), dtype='<u4')
            self._waiting = np.concatenate([self._waiting, fresh])
        return self._waiting[:count]

    def drop(self, count: int) -> None:
        """Use up words that were looked at."""
        self._waiting = self._waiting[count:]


def drawn_rows(total: int, count: int, seed: int) -> Tensor:
    """(count,) rows out of `total`, none twice: the beginning of a shuffle (Fisher and Yates)."""
    swaps = min(count, total - 1)
    steps = Words(seed).peek(swaps) % (total - np.arange(swaps))
    order = list(range(total))
    for place, step in enumerate(steps.tolist()):
        order[place], order[place + step] = order[place + step], order[place]
    return torch.tensor(order[:count])


def means_or_halves(features: Tensor, assigned: Tensor, _: Tensor, num_clusters: int, origin: Tensor) -> Tensor:
    """Means of the clusters; an empty one takes half of another, drawn by its size.

    Both get the mean of the other, each coordinate a 1024th longer in one and shorter in the other, by turns.

    Args:
        origin: (D,) what was taken off the features.
    """
    means, counts = cluster_means(features, assigned, num_clusters)
    empty = (counts == 0).nonzero().squeeze(1).tolist()
    if not empty:
        return means
    means, sizes, words = means + origin, counts.cpu().numpy().astype(np.float64), Words(_SPLIT_SEED)
    change = torch.full_like(origin, _SPLIT_BY)
    change[1::2] *= -1
    for cluster in empty:
        split = _cluster_to_split(sizes, len(features), words)
        means[cluster], means[split] = means[split] * (1 + change), means[split] * (1 - change)
        sizes[cluster] = sizes[split] = sizes[split] / 2
    return means - origin


def _cluster_to_split(sizes: np.ndarray, num_rows: int, words: Words) -> int:
    """Ask one cluster after another, from the first on, until one is taken: with (size - 1) / (N - K) each."""
    chances = ((sizes - 1) / (num_rows - len(sizes))).astype(np.float32)
    while True:
        taken = np.flatnonzero(words.peek(len(sizes)).astype(np.float32) / np.float32(_LARGEST) < chances)
        words.drop(int(taken[0]) + 1 if len(taken) else len(sizes))
        if len(taken):
            return int(taken[0])
