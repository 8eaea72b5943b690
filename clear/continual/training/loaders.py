"""Loaders that are a plan of row numbers: batched reads from tensors, shards of a global batch, exact resume.

Avalanche's finished loader objects are translated. The rows of every batch, and the random numbers drawn for them,
stay those of the original; only how the samples are fetched changes.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import GeneratorType
from typing import TYPE_CHECKING, TypedDict, TypeVar

import torch
from torch.utils.data import ConcatDataset, DataLoader
from torch.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler

from clear.continual.samples import Block, as_block

if TYPE_CHECKING:
    from avalanche.benchmarks.utils import AvalancheDataset
    from avalanche.benchmarks.utils.data_loader import MultiDatasetDataLoader


Given = TypeVar('Given')


class PassState(TypedDict):
    """Where a pass over the data is: the seeds drawn for it, and the batches handed out."""

    seeds: list[int]
    position: int


class SeedTape:
    """Seeds drawn from torch's global generator, kept, so that a pass can be taken up in its middle.

    Args:
        seeds: drawn before; they are handed out again before new ones are drawn.
    """

    def __init__(self, seeds: list[int] | None = None):
        self.seeds = list(seeds or [])
        self._used = 0

    def draw(self) -> int:
        """The next seed. It is drawn as torch's samplers draw theirs."""
        if self._used == len(self.seeds):
            self.seeds.append(int(torch.empty((), dtype=torch.int64).random_().item()))
        self._used += 1
        return self.seeds[self._used - 1]


class IndexLoader:
    """Batches that take some rows of each of several data sets (Avalanche's `MultiDatasetDataLoader`).

    Args:
        datasets: Avalanche data sets.
        batch_sizes: rows of each in a batch.
        shuffle, drop_last: as in torch's loader, for each data set.
        terminating: the data set at whose end a pass ends; None never ends.
        oversample: begin a data set anew that ends before the terminating one, else leave it out from there on.
        repeat: begin the next pass when one ends, in the same iterator.
        num_workers, pin_memory, collate_fn: for data sets that are no tensors.
        shard: (rank, world size) to load the rows rank, rank + W, ... of each batch only; None loads all.
    """

    def __init__(self, datasets: list, batch_sizes: list[int], *, shuffle: bool, drop_last: bool = False,
                 terminating: int | None = 0, oversample: bool = False, repeat: bool = False, num_workers: int = 0,
                 pin_memory: bool = False, collate_fn=None, shard: tuple[int, int] | None = None):
        self.datasets = list(datasets)
        self.batch_sizes = list(batch_sizes)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.terminating = terminating
        self.oversample = oversample
        self.repeat = repeat
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.collate_fn = collate_fn
        self.shard = shard
        # Weak: an iterator that is left in the middle must go at once, and its worker processes with it.
        self._iterator = lambda: None
        self._resume: dict | None = None

    @functools.cached_property
    def blocks(self) -> dict[int, Block] | None:
        """The data sets that have samples as tensors; None if one cannot be."""
        # The own collate function of a data set stacks its samples, which is what a block gives.
        plain = self.collate_fn is None or self.collate_fn == torch.utils.data.default_collate or \
            self.collate_fn == getattr(self.datasets[0], 'collate_fn', None)
        blocks = {group: as_block(dataset) for group, dataset in enumerate(self.datasets) if len(dataset)} \
            if plain else {}
        return None if not blocks or None in blocks.values() else blocks

    def num_batches(self, group: int) -> int:
        """Batches in one pass over a data set."""
        rows, size = len(self.datasets[group]), self.batch_sizes[group]
        return rows // size if self.drop_last else -(-rows // size)

    def __len__(self) -> int:
        return 10**10 if self.terminating is None else self.num_batches(self.terminating)

    def __iter__(self) -> BatchIterator:
        state, self._resume = self._resume, None
        iterator = BatchIterator(self, state)
        self._iterator = weakref.ref(iterator)
        return iterator

    @property
    def iterator(self) -> BatchIterator | None:
        """The pass that goes on, if there is one."""
        return self._iterator()

    def resume(self, state: dict) -> None:
        """Let the next iterator begin where the one with that `state_dict` was."""
        self._resume = state

    def plan(self, tape: SeedTape) -> Iterator[list[tuple[int, torch.Tensor]]]:
        """The batches of one pass as (data set, rows) parts."""
        groups = range(len(self.datasets))
        endless = self.terminating is None
        order = list(groups) if endless else [self.terminating, *(g for g in groups if g != self.terminating)]
        passes: dict[int, Iterator[torch.Tensor]] = {
            group: self._passes(group, endless or (self.oversample and group != self.terminating), tape)
            for group in groups if self.num_batches(group)}
        while passes and (endless or self.terminating in passes):
            parts = {}
            for group in order:
                rows = next(passes[group], None) if group in passes else None
                if rows is not None:
                    parts[group] = rows
                elif group == self.terminating:
                    return
                else:
                    passes.pop(group, None)
            yield sorted(parts.items(), key=lambda part: part[0])

    def _passes(self, group: int, again: bool, tape: SeedTape) -> Iterator[torch.Tensor]:
        count, size = len(self.datasets[group]), self.batch_sizes[group]
        while True:
            if self.shuffle:
                generator = torch.Generator()
                generator.manual_seed(tape.draw())
                rows = torch.randperm(count, generator=generator)
            else:
                rows = torch.arange(count)
            yield from rows[:self.num_batches(group) * size].split(size)
            if not again:
                return

    def take(self, parts: list[tuple[int, torch.Tensor]]) -> list[torch.Tensor]:
        """The samples of a planned batch from the blocks, one tensor per column."""
        if len(parts) == 1:
            [(group, rows)] = parts
            return self.blocks[group].take(rows)
        if any(self.blocks[group].finish is not None for group, _ in parts):
            return [torch.cat(columns) for columns in zip(*(self.blocks[group].take(rows) for group, rows in parts))]
        first = self.blocks[parts[0][0]]
        count = sum(len(rows) for _, rows in parts)
        batch = [column.new_empty((count, *column.shape[1:])) for column in first.columns]
        start = 0
        for group, rows in parts:
            self.blocks[group].take(rows, out=[column[start:start + len(rows)] for column in batch])
            start += len(rows)
        return batch


def endless_batches(dataset: AvalancheDataset, batch_size: int, num_workers: int = 0) -> BatchIterator:
    """Random batches of a memory without end: of `batch_size`, or of all that it holds where that is less."""
    return iter(IndexLoader([dataset], [min(batch_size, len(dataset))], shuffle=True, drop_last=True, repeat=True,
                            num_workers=num_workers))


class BatchIterator:
    """One pass over an `IndexLoader`, or endlessly many if it repeats.

    Args:
        loader: what to iterate over.
        state: `state_dict` of an iterator of an equal loader, to continue there.
    """

    def __init__(self, loader: IndexLoader, state: dict | None = None):
        self.loader = loader
        self.shard_rows: tuple[int, int] | None = None  # own rows and rows of the batch handed out last
        self._state = state
        self._plan: Iterator | None = None
        self._batches: Iterator | None = None
        self._peeked: list | None = None

    def __iter__(self) -> BatchIterator:
        return self

    def __next__(self) -> list[torch.Tensor]:
        self._begin_first()
        try:
            batch = next(self._fetch())
        except StopIteration:
            if not self.loader.repeat:
                raise
            self._begin(dict(seeds=[], position=0))
            batch = next(self._fetch())
        self._position += 1
        if self.loader.shard is not None:
            self.shard_rows = self._shards.popleft()
        return batch

    def is_about_to_read(self) -> bool:
        """True if `next` will read a batch from the blocks: the one before it may be let go of first, so that its
        memory is used again. New memory for every batch would cost a fifth of the time of a linear head.
        """
        self._begin_first()
        if self.loader.blocks is not None and self._peeked is None:
            self._peeked = next(self._plan, None)
        return self._peeked is not None

    def next_parts(self) -> list[tuple[int, torch.Tensor]] | None:
        """The (data set, rows) parts of the next batch, which is not read; None at the end of the pass."""
        self._begin_first()
        parts = next(self._plan, None)
        if parts is None and self.loader.repeat:
            self._begin(dict(seeds=[], position=0))
            parts = next(self._plan)
        self._position += parts is not None
        return parts

    def move_to(self, state: PassState) -> None:
        """Go to where an iterator of an equal loader is, whose `state_dict` this is."""
        self._plan, self._state = None, state

    def state_dict(self) -> PassState:
        """Where the pass is: the seeds drawn for it, and the batches handed out."""
        if self._plan is None:
            return self._state or dict(seeds=[], position=0)
        return dict(seeds=list(self._tape.seeds), position=self._position)

    def _begin_first(self) -> None:
        if self._plan is None:  # not before the first batch: random numbers are drawn here
            self._begin(self._state or dict(seeds=[], position=0))

    def _begin(self, state: dict) -> None:
        self._tape = SeedTape(state['seeds'])
        self._position = state['position']
        self._shards: deque[tuple[int, int]] = deque()
        self._base_seed = self._tape.draw()  # a torch loader draws one at the start of every pass
        batches = self.loader.plan(self._tape)
        for _ in range(self._position):
            next(batches)
        own = _own_rows(batches, self.loader.shard, self._shards) if self.loader.shard is not None else batches
        self._plan = iter(own)
        self._batches = None

    def _fetch(self) -> Iterator:
        if self._batches is None:
            self._batches = self._read() if self.loader.blocks is not None else self._load(self._plan, self._base_seed)
        return self._batches

    def _read(self) -> Iterator:
        while True:
            parts, self._peeked = self._peeked or next(self._plan, None), None
            if parts is None:
                return
            yield self.loader.take(parts)

    def _load(self, batches: Iterator, base_seed: int) -> Iterator:
        loader = self.loader
        starts = [0, *ConcatDataset.cumsum(loader.datasets)]
        sampler = ([starts[group] + row for group, rows in parts for row in rows.tolist()] for parts in batches)
        collate_fn = loader.collate_fn or loader.datasets[0].collate_fn
        return iter(DataLoader(ConcatDataset(loader.datasets), batch_sampler=sampler, num_workers=loader.num_workers,
                               pin_memory=loader.pin_memory, collate_fn=collate_fn,
                               generator=torch.Generator().manual_seed(base_seed)))


def _own_rows(batches: Iterator, shard: tuple[int, int], sizes: deque) -> Iterator[list[tuple[int, torch.Tensor]]]:
    """A rank's rows of each batch; the batch's first row, to be weighted by 0, where there is none for it.

    Args:
        batches: (data set, rows) parts of each global batch.
        shard: (rank, world size).
        sizes: gets (own rows, rows of the batch) of each.
    """
    rank, world_size = shard
    for parts in batches:
        own, start = [], 0
        for group, rows in parts:
            mine = rows[(rank - start) % world_size::world_size]
            start += len(rows)
            if len(mine):
                own.append((group, mine))
        sizes.append((sum(len(rows) for _, rows in own), start))
        yield own or [(parts[0][0], parts[0][1][:1])]


def translate(loader: Given, *, repeat: bool = False, shard: tuple[int, int] | None = None) -> Given | IndexLoader:
    """An `IndexLoader` that gives the same batches as a loader of Avalanche or torch; other objects as they are."""
    from avalanche.benchmarks.utils.data_loader import MultiDatasetDataLoader

    if isinstance(loader, MultiDatasetDataLoader):
        return _translate_multi(loader, repeat, shard)
    if isinstance(loader, DataLoader) and type(loader.batch_sampler) is BatchSampler:
        sampler = loader.batch_sampler.sampler
        is_plain = type(sampler) is SequentialSampler or (type(sampler) is RandomSampler and not sampler.replacement
                                                          and sampler._num_samples is None
                                                          and sampler.generator is None)
        if is_plain and loader.generator is None:  # others do not draw from the global one
            return IndexLoader([loader.dataset], [loader.batch_size], shuffle=type(sampler) is RandomSampler,
                               drop_last=loader.drop_last, repeat=repeat, num_workers=loader.num_workers,
                               pin_memory=loader.pin_memory, collate_fn=loader.collate_fn, shard=shard)
    return loader


@contextmanager
def batched_reads() -> Iterator[None]:
    """Let torch's loaders that begin a pass over tensors read whole batches meanwhile, as `translate` does.

    For the loops of strategies and plugins over the samples of an experience (importances, logits, class means):
    their loaders are local variables, which nobody else can reach.
    """
    begin = DataLoader.__iter__

    def begin_batched(loader: DataLoader) -> Iterator:
        translated = translate(loader)
        is_batched = isinstance(translated, IndexLoader) and translated.blocks is not None
        return iter(translated) if is_batched else begin(loader)

    DataLoader.__iter__ = begin_batched
    try:
        yield
    finally:
        DataLoader.__iter__ = begin


def _translate_multi(loader: MultiDatasetDataLoader, repeat: bool, shard: tuple[int, int] | None) -> IndexLoader:
    from avalanche.benchmarks.utils.data_loader import ReplayDataLoader

    options = loader.loader_kwargs
    translated = IndexLoader(loader.datasets, loader.batch_sizes, shuffle=options.get('shuffle', False),
                             drop_last=options.get('drop_last', False), oversample=loader.oversample_small_datasets,
                             terminating=loader.termination_dataset, repeat=repeat,
                             num_workers=options.get('num_workers', 0), pin_memory=options.get('pin_memory', False),
                             collate_fn=options.get('collate_fn'), shard=shard)
    if loader.never_ending:
        translated.terminating = None
    elif not isinstance(loader, ReplayDataLoader):
        # The longest one. Under several processes Avalanche counted batches of one process.
        counts = [translated.num_batches(group) for group in range(len(loader.datasets))]
        translated.terminating = counts.index(max(counts))
    return translated


def translate_iterator(iterator: Given) -> Given | BatchIterator:
    """A `BatchIterator` in place of a generator over a loader that has not started; other objects as they are.

    Avalanche's strategies keep `cycle(loader)` or `iter(loader)` as attributes; a generator has no state that could
    be saved, but before it starts its frame holds the loader.
    """
    if not isinstance(iterator, GeneratorType) or inspect.getgeneratorstate(iterator) != inspect.GEN_CREATED:
        return iterator
    for name in ('loader', 'self'):
        loader = translate(iterator.gi_frame.f_locals.get(name), repeat=name == 'loader')
        if isinstance(loader, IndexLoader):
            return iter(loader)
    return iterator
