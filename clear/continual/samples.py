"""Which samples an Avalanche data set holds: seen as rows of tensors, and as (experience, row) of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from clear.continual.scenarios.base import TensorBucket
from clear.core.errors import CheckpointError
from clear.datasets.loaders.cropped import CroppedImages

if TYPE_CHECKING:
    from avalanche.benchmarks.utils import AvalancheDataset
    from avalanche.benchmarks.utils.data_attribute import DataAttribute


def resolve(data: object) -> tuple[list, np.ndarray, np.ndarray]:
    """The sequences at the bottom of Avalanche's tree, and for each sample which of them and its row there.

    Args:
        data: an Avalanche data set, its flat data, an attribute or the data of one, or any sequence.

    Returns:
        bottoms: each sequence once; which: (N,) positions in `bottoms`; rows: (N,) rows of those.
    """
    from avalanche.benchmarks.utils.data import AvalancheDataset
    from avalanche.benchmarks.utils.data_attribute import DataAttribute
    from avalanche.benchmarks.utils.flat_data import FlatData

    if isinstance(data, DataAttribute):
        return resolve(data.data)
    if isinstance(data, GatheredRows):
        return data.datasets, data.which, data.rows
    flat = data._flat_data if isinstance(data, AvalancheDataset) else data
    if not isinstance(flat, FlatData):
        return [flat], np.zeros(len(flat), dtype=np.int64), np.arange(len(flat), dtype=np.int64)
    bottoms: list = []
    place: dict[int, int] = {}
    which, rows = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for child in flat._datasets:
        child_bottoms, child_which, child_rows = resolve(child)
        for bottom in child_bottoms:
            if id(bottom) not in place:
                place[id(bottom)] = len(bottoms)
                bottoms.append(bottom)
        positions = np.array([place[id(bottom)] for bottom in child_bottoms], dtype=np.int64)
        which.append(positions[child_which] if len(positions) else child_which)
        rows.append(child_rows)
    which, rows = np.concatenate(which), np.concatenate(rows)
    if flat._indices is not None:
        indices = _as_array(flat._indices)
        which, rows = which[indices], rows[indices]
    return bottoms, which, rows


class GatheredRows(Dataset):
    """Rows of several data sets as one: sample i is `datasets[which[i]][rows[i]]`.

    Avalanche keeps a list of data sets and searches it; here a memory of many experiences costs what one of few does.
    """

    def __init__(self, datasets: list, which: np.ndarray, rows: np.ndarray):
        # A data set that no row is left of must not be kept alive.
        used, which = np.unique(which, return_inverse=True)
        self.datasets = [datasets[position] for position in used.tolist()]
        self.which = which
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> object:
        return self.datasets[self.which[index]][int(self.rows[index])]


def _as_array(indices: Sequence[int] | Sequence[torch.Tensor]) -> np.ndarray:
    from avalanche.benchmarks.utils.flat_data import LazyIndices, LazyRange

    if isinstance(indices, LazyRange):
        return np.arange(len(indices), dtype=np.int64) + indices._start + indices._offset
    if isinstance(indices, LazyIndices):
        indices._to_eager()
        return indices._eager_list
    return np.asarray(indices, dtype=np.int64)


@dataclass
class Block:
    """A data set as whole tensors: column k of sample i is `columns[k][rows[i]]`, or `columns[k][i]` without `rows`.

    Attributes:
        columns: inputs, targets, then Avalanche's attributes of each sample (task label, stored logits ...).
        rows: (N,) rows of the first column only; the others are in sample order.
        finish: makes the inputs of a batch from its rows of the first column and the numbers of its samples, where they
            differ from epoch to epoch.
    """

    columns: list[torch.Tensor]
    rows: torch.Tensor | None
    finish: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None

    def take(self, index: torch.Tensor, out: list[torch.Tensor] | None = None) -> list[torch.Tensor]:
        """The batch of those samples, one tensor per column; written into `out` if it is given."""
        batch = []
        for number, column in enumerate(self.columns):
            rows = self.rows.index_select(0, index) if number == 0 and self.rows is not None else index
            # Twice as fast as `column[rows]` where rows are wide.
            batch.append(torch.index_select(column, 0, rows, out=None if out is None else out[number]))
        if self.finish is not None:
            batch[0] = self.finish(batch[0], index)
        return batch

    def in_order(self, batch_size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Inputs and targets of each batch, to be read only: where the samples lie in order, nothing is copied."""
        inputs = self.columns[0] if self.rows is None else self.columns[0][self.rows]
        return list(zip(inputs.split(batch_size), self.columns[1].split(batch_size)))


def as_block(dataset: object) -> Block | None:
    """`dataset` as tensors, if all of its samples are rows of `TensorBucket`s, or of `CroppedImages` of one
    transform, that nothing else changes; else None.

    Labels come from the data set's `targets`: a benchmark may have given the classes other numbers than the bottom.
    """
    from avalanche.benchmarks.utils.data import AvalancheDataset

    if not isinstance(dataset, AvalancheDataset) or not len(dataset) or _transforms_inputs(dataset._flat_data):
        return None
    bottoms, which, rows = resolve(dataset)
    blocks = [_inputs_of(bottom) for bottom in bottoms]
    if not blocks or any(inputs is None or inputs.shape[1:] != blocks[0].shape[1:] for inputs in blocks):
        return None
    finish = None
    if isinstance(bottoms[0], CroppedImages):
        if any(getattr(bottom, 'transform', None) is not bottoms[0].transform for bottom in bottoms):
            return None
        ids = [bottoms[position].ids[row] for position, row in zip(which.tolist(), rows.tolist())]

        def finish(pixels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            return bottoms[0].finish(pixels, [ids[sample] for sample in index.tolist()])
    elif any(isinstance(bottom, CroppedImages) for bottom in bottoms):
        return None
    targets = attribute_values(dataset.targets)
    extras = [attribute_values(item) for item in dataset._data_attributes.values() if item.use_in_getitem]
    if any(values is None for values in (targets, *extras)):
        return None
    if len(bottoms) > 1:  # a memory: copied once, so that a batch is one read
        inputs = blocks[0].new_empty((len(rows), *blocks[0].shape[1:]))
        for position, block in enumerate(blocks):
            here = torch.from_numpy(np.flatnonzero(which == position))
            inputs[here] = block[torch.from_numpy(rows[here.numpy()])]
        return Block([inputs, targets, *extras], None, finish)
    whole = len(rows) == len(bottoms[0]) and bool((rows == np.arange(len(rows))).all())
    return Block([blocks[0], targets, *extras], None if whole else torch.from_numpy(rows), finish)


def _inputs_of(bottom: object) -> torch.Tensor | None:
    """What lies at the bottom of a data set as one tensor, if it does."""
    if isinstance(bottom, TensorBucket):
        return bottom.inputs
    return bottom.pixels if isinstance(bottom, CroppedImages) else None


def attribute_values(attribute: DataAttribute) -> torch.Tensor | None:
    """The values of a data attribute, one row per sample; None if they are neither numbers nor tensors."""
    from avalanche.benchmarks.utils.flat_data import ConstantSequence

    bottoms, which, rows = resolve(attribute.data)
    if len(bottoms) == 1 and isinstance(bottoms[0], torch.Tensor):
        return bottoms[0][torch.from_numpy(rows)]
    parts: list = [None] * len(rows)
    if len(bottoms) == 1 and isinstance(bottoms[0], ConstantSequence):
        return torch.full((len(rows),), int(bottoms[0][0]))
    if all(isinstance(bottom[0], (int, np.integer)) for bottom in bottoms if len(bottom)):
        values = np.empty(len(rows), dtype=np.int64)
        for position, bottom in enumerate(bottoms):
            here = which == position
            is_constant = isinstance(bottom, ConstantSequence)
            values[here] = bottom[0] if is_constant else np.asarray(bottom, dtype=np.int64)[rows[here]]
        return torch.from_numpy(values)
    for sample, (position, row) in enumerate(zip(which, rows)):
        parts[sample] = bottoms[position][int(row)]
    return torch.stack(parts) if all(isinstance(part, torch.Tensor) for part in parts) else None


def index_values(attribute: DataAttribute) -> None:
    """Fill in which values an attribute has and where (`uniques`, `val_to_idx`): Avalanche asks sample by sample."""
    from avalanche.benchmarks.utils.flat_data import ConstantSequence

    if isinstance(attribute.data, ConstantSequence) or attribute._val_to_idx is not None or not len(attribute):
        return
    values = attribute_values(attribute)
    if values is None or values.ndim != 1 or values.is_floating_point():
        return
    _, first, places, counts = np.unique(values.numpy(), return_index=True, return_inverse=True, return_counts=True)
    rows = np.split(np.argsort(places, kind='stable'), np.cumsum(counts)[:-1])
    seen = np.argsort(first)  # in the order in which they come up, as Avalanche would have them
    attribute._val_to_idx = {int(values[first[place]]): rows[place].tolist() for place in seen}
    attribute._uniques = set()
    for value in attribute._val_to_idx:  # one by one: the order of a set depends on how it grew
        attribute._uniques.add(value)


def _transforms_inputs(flat: object) -> bool:
    """True if a transform of the inputs is set anywhere in Avalanche's tree."""
    return any(first is not None for groups in _transform_groups(flat)
               for first in _parts_of(groups[groups.current_group])[:1])


def has_transforms(flat: object) -> bool:
    """True if Avalanche's tree has any transform, of inputs or targets, in any of its groups."""
    return any(part is not None for groups in _transform_groups(flat) for transform in groups.transform_groups.values()
               for part in _parts_of(transform))


def _transform_groups(flat: object) -> Iterator:
    from avalanche.benchmarks.utils.flat_data import FlatData

    if isinstance(flat, FlatData):
        groups = (getattr(flat, '_transform_groups', None), getattr(flat, '_frozen_transform_groups', None))
        yield from (each for each in groups if each is not None)
        for child in flat._datasets:
            yield from _transform_groups(child)


def _parts_of(transform: object) -> list:
    """A tuple transform holds one for the inputs and one for the targets."""
    return list(getattr(transform, 'transforms', [transform]))


class SampleIndex:
    """Finds the (experience, row) of every sample of an Avalanche data set, and makes data sets from them.

    Args:
        experiences: the Avalanche data set of each training experience.

    Attributes:
        live, live_names: the parts of the strategy that is saved or restored, by name, and their names by `id`.
    """

    def __init__(self, experiences: list):
        self.experiences = experiences
        self.know({})
        # Of each data set at the bottom: which experience every row belongs to, and as which row of it.
        self._places: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for number, dataset in enumerate(experiences):
            bottoms, which, rows = resolve(dataset)
            for position, bottom in enumerate(bottoms):
                if id(bottom) not in self._places:
                    self._places[id(bottom)] = (np.full(len(bottom), -1), np.full(len(bottom), -1))
                owner, row_there = self._places[id(bottom)]
                here = np.flatnonzero(which == position)
                owner[rows[here]], row_there[rows[here]] = number, here

    def know(self, live: dict[str, object]) -> None:
        """Take the names of a strategy's parts: whoever holds one of them holds the very object."""
        self.live = live
        self.live_names = {id(part): name for name, part in live.items()}

    def locate(self, dataset: AvalancheDataset) -> tuple[torch.Tensor, torch.Tensor]:
        """Experience and row of each sample, in order.

        Raises:
            CheckpointError: if a sample belongs to no training experience.
        """
        bottoms, which, rows = resolve(dataset)
        experience, row_there = np.full(len(rows), -1), np.full(len(rows), -1)
        for position, bottom in enumerate(bottoms):
            if id(bottom) in self._places:
                owner, place = self._places[id(bottom)]
                here = which == position
                experience[here], row_there[here] = owner[rows[here]], place[rows[here]]
        if (experience < 0).any():
            raise CheckpointError('A strategy remembers samples that belong to no training experience; '
                                  'they cannot be saved.')
        return torch.from_numpy(experience), torch.from_numpy(row_there)

    def dataset(self, experience: torch.Tensor, rows: torch.Tensor):
        """The data set whose samples are those rows, in that order."""
        from avalanche.benchmarks.utils.utils import concat_datasets

        if not len(rows):
            return concat_datasets([])
        change = torch.nonzero(experience[1:] != experience[:-1]).reshape(-1) + 1
        parts = []
        for part in torch.tensor_split(torch.arange(len(rows)), change):
            parts.append(self.experiences[int(experience[part[0]])].subset(rows[part].tolist()))
        return parts[0] if len(parts) == 1 else concat_datasets(parts)
