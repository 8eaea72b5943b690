"""Reservoir sampling: a uniform sample of everything seen so far, in constant time per experience."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from avalanche.training.storage_policy import ReservoirSamplingBuffer as AvalancheReservoirSamplingBuffer

from clear.continual.buffers.flat import keep_rows
from clear.core.checks import check_whole
from clear.registry import BUFFERS

if TYPE_CHECKING:
    from avalanche.benchmarks.utils import AvalancheDataset


@BUFFERS.register_module()
class ReservoirSamplingBuffer(AvalancheReservoirSamplingBuffer):
    """Keeps the `max_size` samples with the largest of independent uniform keys.

    Every sample of the stream is in the memory with the same probability, K / n after n samples (Vitter 1985; the
    keyed form is Efraimidis and Spirakis 2006 with equal weights). The keys are those that Avalanche's class of this
    name draws, so both keep the same samples; here the memory is flat and in the order of the stream.

    Args:
        max_size: samples in memory, >= 1.
        legacy: Avalanche's own storage, sorted by key, with data attributes nested one level per experience.

    Raises:
        ConfigError: if `max_size` is no whole number of at least 1.

    Example:
        >>> from avalanche.benchmarks.utils import as_classification_dataset
        >>> from torch.utils.data import TensorDataset
        >>> bucket = TensorDataset(torch.randn(50, 2), torch.arange(50) % 5)
        >>> bucket.targets = bucket.tensors[1].tolist()
        >>> memory = ReservoirSamplingBuffer(max_size=10)
        >>> memory.update_from_dataset(as_classification_dataset(bucket))
        >>> len(memory.buffer)
        10
    """

    def __init__(self, max_size: int, legacy: bool = False):
        super().__init__(check_whole('max_size', max_size, 1))
        self.legacy = legacy

    def update_from_dataset(self, new_data: AvalancheDataset) -> None:
        if self.legacy:
            super().update_from_dataset(new_data)
            return
        keys = torch.cat([self._buffer_weights, torch.rand(len(new_data))])
        kept = keys.topk(min(self.max_size, len(keys))).indices.sort().values
        size = len(self.buffer)
        self.buffer = keep_rows(self.buffer, kept[kept < size], new_data, kept[kept >= size] - size)
        self._buffer_weights = keys[kept]

    def resize(self, strategy: object, new_size: int) -> None:
        """Change the size; a smaller memory drops the samples with the smallest keys."""
        if self.legacy:
            super().resize(strategy, new_size)
            return
        self.max_size = new_size
        if len(self.buffer) > new_size:
            kept = self._buffer_weights.topk(new_size).indices.sort().values
            self.buffer = keep_rows(self.buffer, kept, self.buffer, kept[:0])
            self._buffer_weights = self._buffer_weights[kept]
