"""The order in which shards are read: dealt to processes and loader workers, each of which reads on and on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch

from clear.core.checks import check_whole
from clear.core.contracts import LiesInShards
from clear.core.errors import ConfigError
from clear.core.seeding import derive_seed
from clear.datasets.loaders.samplers import EpochSampler, GlobalBatchSampler, Key
from clear.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class ShardSampler(EpochSampler):
    """Shards in an order drawn from (seed, epoch); the samples of each in their own, through a buffer.

    Of a run of samples the first `buffer_size` fill the buffer. Each one after them takes a place in it, drawn from
    (seed, epoch, shard, position in the shard), and the one that was there comes out. In the end the rest comes out in
    the order of what each had drawn. Nothing is read for that: a sample is a number until it is asked for.

    Args:
        dataset: says by `shard_counts` how many samples lie in each shard.
        seed: as for `EpochSampler`.
        shuffle: False reads shard after shard as they are.
        buffer_size: samples from which one is taken, at least 1, which leaves their order as it is. A reader jumps
            about within so many samples.

    Raises:
        ConfigError: for a data set without shards.
    """

    by_workers = True
    batch_sampler = 'ShardBatchSampler'

    def __init__(self, dataset: LiesInShards, seed: int | None = None, shuffle: bool = True, buffer_size: int = 1000):
        if not isinstance(dataset, LiesInShards):
            raise ConfigError(f'ShardSampler reads shards, and {type(dataset).__name__} has none. Read it with '
                              "sampler=dict(type='EpochSampler').")
        super().__init__(dataset, seed, shuffle)
        self.buffer_size = check_whole('buffer_size', buffer_size, 1)
        self._counts = dataset.shard_counts()
        self._starts = np.cumsum(self._counts) - self._counts

    def run(self, epoch: int, first: int, stop: int) -> Iterator[int]:
        """The samples at `first` ... `stop - 1` of the line of all shards of an epoch, through a buffer of their own.

        Which process asks does not matter.
        """
        samples = self._line(epoch, first, stop)
        if not self.shuffle:
            yield from (sample for _, sample in samples)
            return
        buffer = list(itertools.islice(samples, self.buffer_size))
        for drawn, sample in samples:
            place = drawn % self.buffer_size
            yield buffer[place][1]
            buffer[place] = drawn, sample
        yield from (sample for _, sample in sorted(buffer))

    @property
    def num_shards(self) -> int:
        return len(self._counts)

    def _order(self) -> list[int]:
        return list(self.run(self.epoch, 0, len(self)))

    def _line(self, epoch: int, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """(what it draws, sample), one shard after another."""
        shards = np.arange(len(self._counts))
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed('shards', self.seed, 0, epoch))
            shards = torch.randperm(len(shards), generator=generator).numpy()
        ends = np.cumsum(self._counts[shards])
        for place in range(np.searchsorted(ends, first, side='right'), len(shards)):
            shard, count = int(shards[place]), int(self._counts[shards[place]])
            start = int(ends[place]) - count
            if start >= stop:
                return
            own = range(max(first - start, 0), min(stop - start, count))
            generator = torch.Generator().manual_seed(derive_seed('buffer', self.seed, 0, epoch, shard))
            drawn = torch.randint(2**62, (count,), generator=generator)[own.start:own.stop].tolist()
            yield from zip(drawn, range(int(self._starts[shard]) + own.start, int(self._starts[shard]) + own.stop))


@DATA_SAMPLERS.register_module()
class ShardBatchSampler(GlobalBatchSampler):
    """This process's batches, of which each worker of its loader takes those that lie together.

    The line of shards of an epoch is cut into equal parts, one for each process, and each part into runs, one for each
    worker; batch n is the next of run n % workers, and a loader gives it to that worker. A cut may go through a shard,
    so processes have equally many samples and steps, whatever the sizes and number of shards. Numbers of processes and
    workers therefore decide the order; no worker at all is as one.

    Args:
        sampler: a `ShardSampler`.
        batch_size, drop_last: as for `GlobalBatchSampler`.

    Attributes:
        start: as for `GlobalBatchSampler`; what is left out is counted, not read.
        num_workers: of the loader.

    Raises:
        ConfigError: as `GlobalBatchSampler`, or for another sampler.
    """

    def __init__(self, sampler: ShardSampler, batch_size: int, drop_last: bool = True):
        if not isinstance(sampler, ShardSampler):
            raise ConfigError(f'ShardBatchSampler deals what ShardSampler gives, not {type(sampler).__name__}.')
        super().__init__(sampler, batch_size, drop_last)

    def __iter__(self) -> Iterator[list[Key]]:
        start, epoch = self._take_start(), self.sampler.epoch
        runs = [self.sampler.run(epoch, *bounds) for bounds in self.runs()]
        sizes = [self.batch_size] * len(self)
        if sizes:
            sizes[-1] = self._samples - self.batch_size * (len(self) - 1)
        for number, run in enumerate(runs):
            skipped = sum(sizes[number:start:len(runs)])
            next(itertools.islice(run, skipped, skipped), None)
        for number in range(start, len(self)):
            yield list(zip(itertools.repeat(epoch), itertools.islice(runs[number % len(runs)], sizes[number])))

    def describe(self) -> str:
        return (f'{self.sampler.num_shards} shards, dealt to {self._world} process(es) with {max(self.num_workers, 1)} '
                f'worker(s)  buffer {self.sampler.buffer_size}')

    def runs(self) -> list[tuple[int, int]]:
        """First place in the line of shards, and the one behind the last, of each worker."""
        workers, batches = max(self.num_workers, 1), len(self)
        counts = np.full(workers, batches // workers) + (np.arange(workers) < batches % workers)
        counts *= self.batch_size
        if batches:
            counts[(batches - 1) % workers] -= self.batch_size * batches - self._samples
        ends = self._rank * self._samples + np.cumsum(counts)
        return list(zip((ends - counts).tolist(), ends.tolist()))

    @property
    def _samples(self) -> int:
        """Of an epoch, in this process."""
        if self.drop_last:
            return len(self) * self.batch_size
        return len(self.sampler) // self._world
