"""The training loader of a Runner: any data set and sampler, continued at any batch without reading the others."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping

import torch
from mmengine.runner import Runner as MMRunner
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from clear.core import dist
from clear.core.config import to_plain
from clear.core.contracts import Fingerprinted, NamesSampler
from clear.core.errors import ConfigError
from clear.core.seeding import derive_seed, seeded_draws
from clear.datasets.loaders.samplers import EpochSampler, GlobalBatchSampler
from clear.registry import DATA_SAMPLERS, DATASETS

# Samples of a foreign data set whose description goes into its fingerprint.
_DESCRIBED_SAMPLES = 64


class SeededDataset(Dataset):
    """A data set asked for `(epoch, index)`, whose draws follow from (seed, epoch, index) and nothing else.

    Without it what a worker draws depends on all it drew before; mmengine's workers even start every epoch with the
    same seed. In everything else it is the data set: hooks of other libraries read its attributes (classes, labels,
    `metainfo`) and set some (`pipeline`) through `loader.dataset`.

    Args:
        dataset: asked for an index; draws from the global generators of torch, NumPy and `random`.
    """

    def __init__(self, dataset: Dataset, seed: int):
        vars(self).update(dataset=dataset, seed=seed)

    def __getattr__(self, name: str) -> object:
        # Python and torch ask for dunders by themselves; `dataset` is absent while a copy is being made.
        if name == 'dataset' or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in vars(self):
            vars(self)[name] = value
        else:
            setattr(self.dataset, name, value)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> object:
        epoch, index = key
        with seeded_draws(derive_seed('sample', self.seed, 0, epoch, index)):
            return self.dataset[index]


class SkippingBatchSampler(Sampler):
    """Batches of `(epoch, index)` of any batch sampler, without the first `start`; then `start` is 0 again."""

    def __init__(self, batch_sampler: BatchSampler | GlobalBatchSampler):
        self.inner = batch_sampler
        self.sampler = batch_sampler.sampler
        self.start = 0

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        start, self.start = self.start, 0
        epoch = getattr(self.sampler, 'epoch', None)
        for number, batch in enumerate(self.inner):
            if number >= start:
                # An endless sampler has no epochs: the batch tells its passes apart.
                yield [item if isinstance(item, tuple) else (number if epoch is None else epoch, item)
                       for item in batch]


def build_train_dataloader(cfg: dict | DataLoader, seed: int) -> DataLoader:
    """The loader of a `train_dataloader` config, whose `batch_sampler.start` says where to begin.

    Without a `sampler` the order is that of the sampler that the data set names, else of `EpochSampler`. Without a
    `batch_sampler` our samplers have the one that they name: `GlobalBatchSampler`, the same global batches on any
    number of processes, or one that reads by workers. Other samplers keep their order. Data sets without a
    `fingerprint` (those of other libraries) are asked through `SeededDataset`.

    Raises:
        ConfigError: if an epoch has no batch.
    """
    loader = cfg if isinstance(cfg, DataLoader) else MMRunner.build_dataloader(_with_defaults(cfg), seed=seed)
    if len(loader) == 0:
        raise ConfigError(f'train_dataloader: {len(loader.dataset)} samples make no batch of '
                          f'{_batch_size(loader)} x {dist.world_size()} process(es). Lower batch_size.')
    dataset, batch_sampler = loader.dataset, loader.batch_sampler
    if isinstance(dataset, Fingerprinted):
        dataset.seed = seed
    else:
        dataset = SeededDataset(dataset, seed)
    if isinstance(batch_sampler, GlobalBatchSampler):
        batch_sampler.num_workers = loader.num_workers
    elif not isinstance(batch_sampler, SkippingBatchSampler):
        batch_sampler = SkippingBatchSampler(batch_sampler)
    # A generator of its own: starting an epoch then draws nothing from the generators of training.
    generator = torch.Generator().manual_seed(derive_seed(seed, 'workers', dist.rank()))
    rebuilt = DataLoader(dataset, batch_sampler=batch_sampler, num_workers=loader.num_workers,
                         collate_fn=loader.collate_fn, pin_memory=loader.pin_memory, timeout=loader.timeout,
                         worker_init_fn=loader.worker_init_fn, prefetch_factor=loader.prefetch_factor,
                         persistent_workers=loader.persistent_workers, generator=generator, in_order=loader.in_order,
                         multiprocessing_context=loader.multiprocessing_context,
                         pin_memory_device=loader.pin_memory_device)
    # torch leaves these empty beside a batch_sampler and lets nobody set them, but hooks ask the loader for them.
    vars(rebuilt).update(batch_size=_batch_size(loader), sampler=batch_sampler.sampler,
                         drop_last=getattr(loader.batch_sampler, 'drop_last', False))
    return rebuilt


def own_batch_sampler(loader: DataLoader) -> Sampler:
    """The batch sampler of the config, below what continues it."""
    sampler = loader.batch_sampler
    return sampler.inner if isinstance(sampler, SkippingBatchSampler) else sampler


def _with_defaults(cfg: dict) -> dict:
    cfg = copy.deepcopy(dict(cfg))
    cfg.setdefault('num_workers', 0)
    kind = sampler_kind(cfg)
    if 'sampler' not in cfg and 'batch_sampler' not in cfg:
        cfg['sampler'] = dict(type=kind, shuffle=cfg.pop('shuffle', True))
    if 'batch_sampler' not in cfg and isinstance(kind, type) and issubclass(kind, EpochSampler):
        cfg['batch_sampler'] = dict(type=kind.batch_sampler, drop_last=cfg.pop('drop_last', True))
        cfg.setdefault('collate_fn', dict(type='default_collate'))
    cfg.setdefault('persistent_workers', cfg['num_workers'] > 0)
    return cfg


def sampler_kind(cfg: Mapping) -> Callable | None:
    """The class of the sampler of a `train_dataloader` config, whether it is named there or not."""
    sampler = cfg.get('sampler')
    if sampler is None:
        dataset = cfg.get('dataset')
        dataset = dataset.get('type') if isinstance(dataset, Mapping) else type(dataset)
        dataset = DATASETS.get(dataset) if isinstance(dataset, str) else dataset
        return DATA_SAMPLERS.require(dataset.sampler_type) if isinstance(dataset, NamesSampler) else EpochSampler
    kind = sampler.get('type') if isinstance(sampler, Mapping) else type(sampler)
    return DATA_SAMPLERS.get(kind) if isinstance(kind, str) else kind


def is_read_by_workers(cfg: Mapping) -> bool:
    """Whether the order of a `train_dataloader` config depends on the numbers of processes and of loader workers."""
    kind = sampler_kind(cfg)
    return isinstance(kind, type) and issubclass(kind, EpochSampler) and kind.by_workers


def _batch_size(loader: DataLoader) -> int | None:
    return getattr(loader.batch_sampler, 'batch_size', None)


def data_fingerprint(dataset: Dataset) -> str:
    """What tells one data set from another: its own `fingerprint()`, else a hash of size, classes and some samples."""
    if isinstance(dataset, Fingerprinted):
        return str(dataset.fingerprint())
    inner = dataset.dataset if isinstance(dataset, SeededDataset) else dataset
    described = dict(type=type(inner).__name__, size=len(inner), metainfo=to_plain(getattr(inner, 'metainfo', None)))
    if hasattr(inner, 'get_data_info') and len(inner):
        step = max(1, len(inner) // _DESCRIBED_SAMPLES)
        described['samples'] = [to_plain(inner.get_data_info(index)) for index in range(0, len(inner), step)]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
