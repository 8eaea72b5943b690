"""Memories in equal shares per experience or class; places that a small group cannot fill go to the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, SupportsInt

import torch
from avalanche.benchmarks.utils import AvalancheDataset, make_avalanche_dataset
from avalanche.benchmarks.utils.data_attribute import DataAttribute, TensorDataAttribute
from avalanche.benchmarks.utils.flat_data import FlatData
from avalanche.training.storage_policy import ClassBalancedBuffer as AvalancheClassBalancedBuffer
from avalanche.training.storage_policy import ExemplarsBuffer, ExemplarsSelectionStrategy
from avalanche.training.storage_policy import ExperienceBalancedBuffer as AvalancheExperienceBalancedBuffer
from avalanche.training.storage_policy import ParametricBuffer as AvalancheParametricBuffer
from avalanche.training.supervised.der import ClassBalancedBufferWithLogits as AvalancheBufferWithLogits
from avalanche.training.supervised.der import compute_dataset_logits

from clear.continual.buffers.flat import FlatReservoir, join
from clear.continual.samples import attribute_values
from clear.core.checks import check_whole
from clear.core.logs import logger
from clear.registry import BUFFERS

if TYPE_CHECKING:
    from avalanche.benchmarks.scenarios.generic_scenario import CLExperience
    from avalanche.training.templates import SupervisedTemplate


def share_out(max_size: int, held: dict[int, int], order: Sequence[int] | None = None) -> dict[int, int]:
    """Places of each group: equal shares, those that a group cannot fill divided over the others in the same way.

    Args:
        max_size: places in all.
        held: samples that each group could keep.
        order: groups that get one place more where the division leaves a rest, first ones first; by number if None.
    """
    places = {}
    open_groups = list(sorted(held) if order is None else order)
    left = max_size
    while True:
        share, rest = divmod(left, max(len(open_groups), 1))
        small = [group for group in open_groups if held[group] <= share]
        if not small:
            break
        for group in small:
            places[group] = held[group]
            left -= held[group]
            open_groups.remove(group)
    places.update({group: share + (position < rest) for position, group in enumerate(open_groups)})
    return places


class SharedPlaces:
    """Comes before a memory of Avalanche's that is divided into groups.

    Avalanche 0.6 gives every group max_size / groups places whatever it holds: after experiences of 2, 20 and 20
    samples a memory of 10 holds 2 + 3 + 3. Here a group of fewer samples than its share leaves the rest to the others:
    2 + 4 + 4. Where there are more groups than places, a random choice of the groups seen has one place each, with
    equal chances; Avalanche's go to the first groups for ever. All else, and the samples kept, are as Avalanche's.

    With `adaptive_size=False` each group has a fixed number of places, which is Avalanche's and stays.
    """

    method_version = 2
    method_remedy = 'legacy=True, of the strategy, the plugin or the memory, brings the earlier shares back'
    rebuilt = ('_whole',)

    def set_form(self, legacy: bool) -> None:
        """Of the constructor, behind Avalanche's."""
        check_whole('max_size', self.max_size, 1)
        self.legacy = legacy
        self._was_told = False
        self._whole: tuple[list[AvalancheDataset], AvalancheDataset] | None = None
        if self.is_stock:
            self.method_version = 1

    @property
    def is_stock(self) -> bool:
        """Whether places are Avalanche's."""
        return self.legacy or not self.adaptive_size

    @property
    def buffer_datasets(self) -> list:
        """What the groups hold; those that hold nothing are left out."""
        return [group.buffer for group in self.buffer_groups.values() if len(group.buffer)]

    @property
    def buffer(self) -> AvalancheDataset:
        parts = self.buffer_datasets
        known = self._whole
        if known is None or len(known[0]) != len(parts) or any(a is not b for a, b in zip(known[0], parts)):
            self._whole = known = parts, join(parts)  # asked for several times in an experience
        return known[1]

    def take(self, agent: SupervisedTemplate | None, new: dict[int, AvalancheDataset]) -> None:
        """Offer samples, a data set for each group that has new ones."""
        self._whole = None
        known = set(self.buffer_groups)
        for group, dataset in new.items():
            if group not in known:
                self.buffer_groups[group] = self._make_group()
            self.buffer_groups[group].max_size = self.max_size  # cut below, when all groups are known
            self._add(agent, self.buffer_groups[group], dataset)
        self._cut(agent, [group for group in new if group not in known])

    def resize(self, strategy: SupervisedTemplate | None, new_size: int) -> None:
        if self.is_stock:
            super().resize(strategy, new_size)
            return
        self.max_size = new_size
        self._cut(strategy, [])

    def _make_group(self) -> ExemplarsBuffer:
        return FlatReservoir(self.max_size)

    def _add(self, agent: SupervisedTemplate | None, group: ExemplarsBuffer, dataset: AvalancheDataset) -> None:
        group.update_from_dataset(dataset)

    def _cut(self, agent: SupervisedTemplate | None, new: list[int]) -> None:
        held = {group: len(buffer.buffer) for group, buffer in self.buffer_groups.items()}
        order = None if len(held) <= self.max_size else self._drawn(held, new)
        for group, size in share_out(self.max_size, held, order).items():
            self.buffer_groups[group].resize(agent, size)

    def _drawn(self, held: dict[int, int], new: list[int]) -> list[int]:
        """The groups in the order of independent uniform keys: a reservoir of groups.

        Of the keys of earlier groups only the order is kept, in what the memory holds: drawn anew, the largest are
        those of the groups that have a place.
        """
        if not self._was_told:
            self._was_told = True
            logger.warning('%s: %d places for %d groups; a random part of the groups has one place each.',
                           type(self).__name__, self.max_size, len(held))
        old = [group for group in held if group not in new and held[group]]
        keys = torch.rand(len(held) - len(new)).sort(descending=True).values[:len(old)]
        drawn = dict(zip([old[position] for position in torch.randperm(len(old)).tolist()], keys.tolist()))
        drawn.update(zip(new, torch.rand(len(new)).tolist()))
        rest = [group for group in held if group not in drawn]
        return sorted(drawn, key=drawn.__getitem__, reverse=True) + rest


def rows_by_class(targets: Iterable[SupportsInt]) -> dict[int, list[int]]:
    """The rows of each class, classes in the order in which they come first."""
    values = attribute_values(targets) if isinstance(targets, DataAttribute) else None
    rows: dict[int, list[int]] = {}
    for row, target in enumerate(targets if values is None else values.tolist()):
        rows.setdefault(int(target), []).append(row)
    return rows


@BUFFERS.register_module()
class ExperienceBalancedBuffer(SharedPlaces, AvalancheExperienceBalancedBuffer):
    """A random part of every experience, in equal shares (see `SharedPlaces`).

    Args:
        max_size: samples in memory, >= 1.
        adaptive_size: False for a fixed number of places each, max_size / num_experiences.
        num_experiences: with `adaptive_size=False`.
        legacy: Avalanche's shares.

    Example:
        >>> from types import SimpleNamespace
        >>> from avalanche.benchmarks.utils import as_classification_dataset
        >>> from torch.utils.data import TensorDataset
        >>> bucket = TensorDataset(torch.randn(50, 2), torch.arange(50) % 5)
        >>> bucket.targets = bucket.tensors[1].tolist()
        >>> memory = ExperienceBalancedBuffer(max_size=10)
        >>> for _ in range(2):
        ...     memory.post_adapt(None, SimpleNamespace(dataset=as_classification_dataset(bucket)))
        >>> [len(part.buffer) for part in memory.buffer_groups.values()]
        [5, 5]
    """

    def __init__(self, max_size: int, adaptive_size: bool = True, num_experiences: int | None = None, *,
                 legacy: bool = False):
        super().__init__(max_size, adaptive_size, num_experiences)
        self.set_form(legacy)

    def post_adapt(self, agent: SupervisedTemplate | None, exp: CLExperience) -> None:
        if self.is_stock:
            super().post_adapt(agent, exp)
            return
        self._num_exps += 1
        self.take(agent, {self._num_exps - 1: exp.dataset})


@BUFFERS.register_module()
class ClassBalancedBuffer(SharedPlaces, AvalancheClassBalancedBuffer):
    """A random part of what came of every class, in equal shares (see `SharedPlaces`).

    Args:
        max_size: samples in memory, >= 1.
        adaptive_size: False for a fixed number of places each, max_size / total_num_classes.
        total_num_classes: with `adaptive_size=False`.
        legacy: Avalanche's shares.

    Example:
        >>> from avalanche.benchmarks.utils import as_classification_dataset
        >>> from torch.utils.data import TensorDataset
        >>> bucket = TensorDataset(torch.randn(50, 2), torch.arange(50) % 5)
        >>> bucket.targets = bucket.tensors[1].tolist()
        >>> memory = ClassBalancedBuffer(max_size=10)
        >>> memory.update_from_dataset(as_classification_dataset(bucket))
        >>> {label: len(part.buffer) for label, part in sorted(memory.buffer_groups.items())}
        {0: 2, 1: 2, 2: 2, 3: 2, 4: 2}
    """

    def __init__(self, max_size: int, adaptive_size: bool = True, total_num_classes: int | None = None, *,
                 legacy: bool = False):
        super().__init__(max_size, adaptive_size, total_num_classes)
        self.set_form(legacy)

    def update_from_dataset(self, new_data: AvalancheDataset, strategy: SupervisedTemplate | None = None) -> None:
        if self.is_stock or len(new_data) == 0:
            super().update_from_dataset(new_data, strategy)
            return
        rows = rows_by_class(new_data.targets)
        self.seen_classes.update(rows)
        self.take(strategy, {label: new_data.subset(chosen) for label, chosen in rows.items()})


@BUFFERS.register_module()
class ClassBalancedBufferWithLogits(SharedPlaces, AvalancheBufferWithLogits):
    """A class-balanced memory that keeps the logits that a sample had when it came in, as DER wants them.

    Args:
        as for `ClassBalancedBuffer`.

    Example:
        >>> from types import SimpleNamespace
        >>> from avalanche.benchmarks.utils import _make_taskaware_classification_dataset
        >>> from torch.utils.data import TensorDataset
        >>> bucket = TensorDataset(torch.randn(50, 2), torch.arange(50) % 5)
        >>> bucket.targets = bucket.tensors[1].tolist()
        >>> experience = SimpleNamespace(dataset=_make_taskaware_classification_dataset(bucket, task_labels=0))
        >>> memory = ClassBalancedBufferWithLogits(max_size=10)
        >>> memory.update(SimpleNamespace(experience=experience, model=torch.nn.Linear(2, 5), train_mb_size=16,
        ...                               device='cpu'))
        >>> len(memory.buffer), memory.buffer.logits[0].shape
        (10, torch.Size([5]))
    """

    def __init__(self, max_size: int, adaptive_size: bool = True, total_num_classes: int | None = None, *,
                 legacy: bool = False):
        super().__init__(max_size, adaptive_size, total_num_classes)
        self.set_form(legacy)

    def update(self, strategy: SupervisedTemplate, **kwargs) -> None:
        if self.is_stock:
            super().update(strategy, **kwargs)
            return
        new_data = strategy.experience.dataset
        logits = compute_dataset_logits(new_data.eval(), strategy.model, strategy.train_mb_size, strategy.device,
                                        num_workers=kwargs.get('num_workers', 0))
        column = TensorDataAttribute(FlatData([logits], discard_elements_not_in_indices=True), name='logits',
                                     use_in_getitem=True)
        with_logits = make_avalanche_dataset(new_data, data_attributes=[column])
        rows = rows_by_class(new_data.targets)
        self.seen_classes.update(rows)
        self.take(strategy, {label: with_logits.subset(chosen) for label, chosen in rows.items()})


class RankedExemplars(ExemplarsBuffer):
    """Samples in the order in which a rule prefers them; a smaller memory keeps the first ones."""

    def resize(self, strategy: SupervisedTemplate | None, new_size: int) -> None:
        self.max_size = new_size
        if len(self.buffer) > new_size:
            self.buffer = self.buffer.subset(list(range(new_size)))


@BUFFERS.register_module()
class ParametricBuffer(SharedPlaces, AvalancheParametricBuffer):
    """Exemplars chosen by a rule, in equal shares per group (see `SharedPlaces`).

    Avalanche 0.6 applies the rule again whenever a group shrinks, to the exemplars alone; herding then aims at their
    mean. Here a group that got no new samples keeps the first of its exemplars, as iCaRL's reduction does
    (Rebuffi et al. 2017, arXiv:1611.07725, Algorithm 5).

    Args:
        max_size: samples in memory, >= 1.
        groupby: None, 'class', 'task' or 'experience'.
        selection_strategy: the rule; random by default.
        legacy: Avalanche's shares and repeated choice.

    Example:
        >>> from types import SimpleNamespace
        >>> from avalanche.benchmarks.utils import as_classification_dataset
        >>> from torch.utils.data import TensorDataset
        >>> bucket = TensorDataset(torch.randn(50, 2), torch.arange(50) % 5)
        >>> bucket.targets = bucket.tensors[1].tolist()
        >>> memory = ParametricBuffer(max_size=10, groupby='class')
        >>> memory.post_adapt(None, SimpleNamespace(dataset=as_classification_dataset(bucket)))
        >>> {label: len(part.buffer) for label, part in sorted(memory.buffer_groups.items())}
        {0: 2, 1: 2, 2: 2, 3: 2, 4: 2}
    """

    def __init__(self, max_size: int, groupby: str | None = None,
                 selection_strategy: ExemplarsSelectionStrategy | None = None, *, legacy: bool = False):
        super().__init__(max_size, groupby, selection_strategy)
        self.set_form(legacy)

    def post_adapt(self, agent: SupervisedTemplate | None, exp: CLExperience) -> None:
        if self.is_stock:
            for group in self.buffer_groups.values():
                group.selection_strategy = self.selection_strategy  # not saved with each group
            super().post_adapt(agent, exp)
            return
        new = self._make_groups(agent, exp.dataset)
        self.seen_groups.update(new)
        self.take(agent, new)

    def _make_group(self) -> ExemplarsBuffer:
        return RankedExemplars(self.max_size)

    def _add(self, agent: SupervisedTemplate | None, group: ExemplarsBuffer, dataset: AvalancheDataset) -> None:
        offered = group.buffer.concat(dataset) if len(group.buffer) else dataset
        order = self.selection_strategy.make_sorted_indices(strategy=agent, data=offered)
        group.buffer = offered.subset([int(row) for row in order][:self.max_size])
