"""Memories that stay one layer deep, however many experiences they have seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from avalanche.training.storage_policy import ReservoirSamplingBuffer as AvalancheReservoirSamplingBuffer

from clear.continual.samples import GatheredRows, has_transforms, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from avalanche.benchmarks.utils import AvalancheDataset
    from avalanche.benchmarks.utils.data_attribute import DataAttribute

    # A data set, and the rows of it that are kept.
    Kept = tuple[AvalancheDataset, torch.Tensor]


def keep_rows(old: AvalancheDataset, old_rows: torch.Tensor, new: AvalancheDataset, new_rows: torch.Tensor
             ) -> AvalancheDataset:
    """One flat Avalanche data set of some samples of `old`, followed by some of `new`.

    Avalanche flattens the samples of a concatenation, but the attributes of each (task labels, stored logits) become a
    tree that is one level deeper after every experience. Here attributes are copied into one list or tensor, so neither
    an update nor a read depends on the number of experiences before.

    Args:
        old, new: Avalanche data sets; `old` may be empty.
        old_rows, new_rows: integer tensors, the rows to keep and their order.
    """
    return _joined([(old, old_rows), (new, new_rows)])


def join(datasets: Sequence[AvalancheDataset]) -> AvalancheDataset:
    """All samples of some data sets as one flat data set, as `keep_rows` makes it."""
    return _joined([(dataset, torch.arange(len(dataset))) for dataset in datasets])


class FlatReservoir(AvalancheReservoirSamplingBuffer):
    """The group of a memory: Avalanche's reservoir, the same samples in the same order, but flat.

    Avalanche 0.6 takes its rows by a list of 0-dimensional tensors and nests one level per update, which costs more
    than the training of a small model.
    """

    def update_from_dataset(self, new_data: AvalancheDataset) -> None:
        keys = torch.cat([torch.rand(len(new_data)), self._buffer_weights])
        keys, order = keys.sort(descending=True)
        offered = join([new_data, self.buffer]) if len(self.buffer) else new_data
        self.buffer = _joined([(offered, order[:self.max_size])])
        self._buffer_weights = keys[:self.max_size]

    def resize(self, strategy: object, new_size: int) -> None:
        self.max_size = new_size
        if len(self.buffer) > new_size:
            self.buffer = _joined([(self.buffer, torch.arange(new_size))])
            self._buffer_weights = self._buffer_weights[:new_size]


def _joined(parts: Sequence[Kept]) -> AvalancheDataset:
    from avalanche.benchmarks.utils.utils import concat_datasets

    kept = [(dataset, rows) for dataset, rows in parts if len(rows)]
    if not kept:
        return concat_datasets([])
    first, *others = [dataset._data_attributes for dataset, _ in kept]
    attributes = [_flat_attribute(name, kept) for name in first if all(name in other for other in others)]
    if any(has_transforms(dataset._flat_data) for dataset, _ in kept):
        parts = [dataset.subset(rows.tolist()) for dataset, rows in kept]
    else:
        parts = [_gather(kept)]
    return type(kept[-1][0])(parts, data_attributes=attributes, collate_fn=kept[0][0].collate_fn)


def _gather(kept: list[Kept]) -> GatheredRows:
    """The rows of data sets without transforms as one data set."""
    datasets: list = []
    place: dict[int, int] = {}
    which, rows = [], []
    for dataset, chosen in kept:
        bottoms, positions, rows_there = resolve(dataset)
        for bottom in bottoms:
            if id(bottom) not in place:
                place[id(bottom)] = len(datasets)
                datasets.append(bottom)
        numbers = np.array([place[id(bottom)] for bottom in bottoms])
        which.append(numbers[positions[chosen.numpy()]])
        rows.append(rows_there[chosen.numpy()])
    return GatheredRows(datasets, np.concatenate(which), np.concatenate(rows))


def _flat_attribute(name: str, kept: list[Kept]) -> DataAttribute:
    """The values of an attribute as one tensor where they are rows of tensors, else as one list."""
    from avalanche.benchmarks.utils.data_attribute import DataAttribute
    from avalanche.benchmarks.utils.flat_data import ConstantSequence, FlatData

    use_in_getitem = kept[0][0]._data_attributes[name].use_in_getitem
    parts = [(*resolve(dataset._data_attributes[name]), chosen) for dataset, chosen in kept]
    if all(len(bottoms) == 1 and isinstance(bottoms[0], torch.Tensor) for bottoms, *_ in parts) and \
            len({bottoms[0].shape[1:] for bottoms, *_ in parts}) == 1:
        values = torch.cat([bottoms[0][torch.from_numpy(rows)[chosen]] for bottoms, _, rows, chosen in parts])
        return DataAttribute(FlatData([values]), name, use_in_getitem=use_in_getitem)
    values: list = []
    for bottoms, which, rows, chosen in parts:
        if len(bottoms) == 1 and isinstance(bottoms[0], ConstantSequence):
            values += [bottoms[0][0]] * len(chosen)
            continue
        values += [bottoms[position][row] for position, row in zip(which[chosen.numpy()].tolist(),
                                                                   rows[chosen.numpy()].tolist())]
    # The list is shortened when rows go: a memory of logits must not keep those of samples it has dropped.
    data = FlatData([values], discard_elements_not_in_indices=isinstance(values[0], torch.Tensor))
    return DataAttribute(data, name, use_in_getitem=use_in_getitem)
