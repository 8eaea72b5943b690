"""All training samples of a stream as one tensor, so that a batch of several learners is one read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from clear.continual.samples import SampleIndex, as_block, resolve

if TYPE_CHECKING:
    from avalanche.benchmarks.utils import AvalancheDataset


class NoLane(Exception):  # noqa: N818
    """Why runs that are built cannot be trained in a lane; they can one after the other."""


class SamplePool:
    """The samples of all training experiences, in their order.

    A bucket becomes a part of the pool: its own tensor is let go, so the stream is in memory once.

    Args:
        experiences: the Avalanche data set of each experience, of features without transforms.

    Raises:
        NoLane: if the samples are no rows of features.

    Shape:
        inputs: (N, D)   targets: (N,)
    """

    def __init__(self, experiences: Sequence[AvalancheDataset]):
        blocks = [as_block(dataset) for dataset in experiences]
        if not blocks or any(block is None or block.columns[0].ndim != 2 or
                             not block.columns[0].is_floating_point() for block in blocks):
            raise NoLane('the samples are no rows of features')
        self.index = SampleIndex(list(experiences))
        sizes = [len(dataset) for dataset in experiences]
        self._starts = torch.tensor(np.cumsum([0, *sizes]))
        first = blocks[0].columns[0]
        self.inputs = first.new_empty((sum(sizes), first.shape[1]))
        self.targets = torch.cat([block.columns[1] for block in blocks])
        parts = self.inputs.split(sizes)
        while blocks:  # one after the other, so that no second copy of the stream is ever there
            block, part = blocks.pop(), parts[len(blocks)]
            source = block.columns[0]
            part.copy_(source if block.rows is None else source[block.rows])
            bottom = resolve(experiences[len(blocks)])[0][0]
            if block.rows is None and bottom.inputs is source:
                bottom.inputs = part

    def rows_of(self, dataset: AvalancheDataset) -> Tensor:
        """(N,), the row of each sample of a data set of this stream, e.g. of a memory."""
        experience, row = self.index.locate(dataset)
        return self._starts[experience] + row
