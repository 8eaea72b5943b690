"""The order of samples in pretraining: the same global batches on any number of processes, from any iteration on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sized

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from clear.core import dist
from clear.core.checks import check_whole
from clear.core.errors import ConfigError
from clear.core.seeding import derive_seed
from clear.registry import DATA_SAMPLERS

Key = tuple[int, int]


@DATA_SAMPLERS.register_module()
class EpochSampler(Sampler):
    """Every sample of an epoch as a key (epoch, index), in one order that all processes share.

    The epoch travels with the index, so loader workers know it without shared state. The order follows from (seed,
    epoch) alone, with experience 0, as everywhere outside continual runs.

    Args:
        seed: of the run; None draws one and shares it between the processes.
        shuffle: False keeps the order of the data set.

    Attributes:
        by_workers: whether the order depends on the numbers of processes and of loader workers.
        batch_sampler: the type that makes batches of it, unless the config names one.
    """

    by_workers = False
    batch_sampler = 'GlobalBatchSampler'

    def __init__(self, dataset: Sized, seed: int | None = None, shuffle: bool = True):
        if seed is None:
            from mmengine.dist import sync_random_seed

            seed = sync_random_seed()
        self.dataset = dataset
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Key]:
        """Keys of the epoch that is set when the iteration begins."""
        return zip(itertools.repeat(self.epoch), self._order())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, counted from 0."""
        self.epoch = int(epoch)

    def _order(self) -> list[int]:
        if not self.shuffle:
            return list(range(len(self)))
        generator = torch.Generator().manual_seed(derive_seed('order', self.seed, 0, self.epoch))
        weights = getattr(self.dataset, 'sample_weights', None)
        if weights is None:
            return torch.randperm(len(self), generator=generator).tolist()
        return weighted_draws(weights, len(self), generator)


def weighted_draws(weights: np.ndarray, count: int, generator: torch.Generator) -> list[int]:
    """Indices drawn with replacement in proportion to `weights`, of which there may be any number.

    `torch.multinomial` takes 2**24 of them at most.
    """
    ends = np.cumsum(weights, dtype=np.float64)
    places = torch.rand(count, generator=generator, dtype=torch.float64).numpy() * ends[-1]
    return np.minimum(np.searchsorted(ends, places, side='right'), len(ends) - 1).tolist()


@DATA_SAMPLERS.register_module()
class EpisodicSampler(EpochSampler):
    """An epoch is an episode: `episode_size` samples drawn with replacement from all rows of the data set.

    Drawn from (seed, epoch), so that processes and workers agree. (ITRA draws from the first `episode_size` rows only,
    unless it is told the size of the data.)

    Args:
        episode_size: samples of an epoch.
        seed: as for `EpochSampler`.
        interval: epochs that an episode lasts; each but its first has the same samples in another order.

    Raises:
        ConfigError: if a number is not a positive whole one.
    """

    def __init__(self, dataset: Sized, episode_size: int, seed: int | None = None, interval: int = 1):
        super().__init__(dataset, seed)
        self.episode_size = check_whole('episode_size', episode_size, 1)
        self.interval = check_whole('EpisodicSampler: interval', interval, 1)

    def __len__(self) -> int:
        return self.episode_size

    def first_of(self, epoch: int) -> int:
        """The epoch that the episode of an epoch was drawn for."""
        return epoch - epoch % self.interval

    def positions(self) -> Tensor:
        """(episode_size,) int64: which draw of the episode each sample of this epoch is."""
        if self.epoch == self.first_of(self.epoch):
            return torch.arange(self.episode_size)
        generator = torch.Generator().manual_seed(derive_seed('order', self.seed, 0, self.epoch))
        return torch.randperm(self.episode_size, generator=generator)

    def draws(self) -> Tensor:
        """(episode_size,) int64: the samples of this epoch's episode, as they were drawn."""
        generator = torch.Generator().manual_seed(derive_seed('episode', self.seed, 0, self.first_of(self.epoch)))
        weights = getattr(self.dataset, 'sample_weights', None)
        if weights is None:
            return torch.randint(len(self.dataset), (self.episode_size,), generator=generator)
        return torch.tensor(weighted_draws(weights, self.episode_size, generator))

    def _order(self) -> list[int]:
        return self.draws()[self.positions()].tolist()


@DATA_SAMPLERS.register_module()
class GlobalBatchSampler(Sampler):
    """This process's part of each global batch: rank r has rows r * B ... (r + 1) * B - 1 of world * B.

    Rows gathered over ranks are then in the order that one process with a batch of world * B sees.

    Args:
        sampler: gives the same order on every process, e.g. `EpochSampler`.
        batch_size: B, per process.
        drop_last: False adds a last, shorter batch, of equal length on all processes; up to world - 1 samples that
            do not divide are left out of it.

    Attributes:
        start: number of batches that the next iteration leaves out at its beginning, for a run that is resumed in
            the middle of an epoch. 0 again once it has given a batch. `len()` always counts the whole epoch.
        num_workers: of the loader, which sets it; here it does not matter.

    Raises:
        ConfigError: if the data hold less than one batch, or `batch_size` is no positive whole number.
        ValueError: from an iteration, if `start` is not in 0 ... len().
    """

    def __init__(self, sampler: Sampler, batch_size: int, drop_last: bool = True):
        self.sampler = sampler
        self.batch_size = check_whole('batch_size', batch_size, 1)
        self.drop_last = drop_last
        self.start = 0
        self.num_workers = 0
        self._world, self._rank = dist.world_size(), dist.rank()
        if not len(self):
            what = f'one batch on each of {self._world} processes, {self._world} x {batch_size} = ' \
                   f'{self._world * batch_size}' if drop_last else f'one for each of {self._world} processes'
            raise ConfigError(f'{len(sampler)} samples are fewer than {what}. Use a smaller batch_size or more data.')

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.batch_size * self._world)
        return whole + (not self.drop_last and rest >= self._world)

    def __iter__(self) -> Iterator[list[Key]]:
        # A generator: `start` is used by the first next(). A loader with workers calls iter() twice and drops the
        # first iterator unused.
        start = self._take_start()
        keys = list(self.sampler)
        for number in range(start, len(self)):
            yield keys[self.own_part(number)]

    def own_part(self, number: int) -> slice:
        """Where among the samples of an epoch those of this process in a batch stand."""
        first = number * self.batch_size * self._world
        size = min(self.batch_size, (len(self.sampler) - first) // self._world)
        return slice(first + self._rank * size, first + (self._rank + 1) * size)

    def describe(self) -> str:
        """What a plan says about the order; nothing if it is the usual one."""
        return ''

    def _take_start(self) -> int:
        if not 0 <= self.start <= len(self):
            raise ValueError(f'start is {self.start}, expected 0 ... {len(self)}, the batches of an epoch.')
        start, self.start = self.start, 0
        return start
