"""The smallest batch of a training, tried before it begins: BatchNorm takes no single value per channel.

Only a batch of one sample can be refused for its size, so nothing is run where none will occur.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from mmengine.dataset import default_collate
from torch import nn

from clear.continual.scenarios import ScenarioInfo
from clear.continual.training.traits import trait
from clear.core import dist
from clear.core.errors import ConfigError
from clear.datasets import SelfSupervisedImages
from clear.datasets.loaders.samplers import GlobalBatchSampler
from clear.engine.continual.plan import first_readable
from clear.engine.training.loading import own_batch_sampler
from clear.models.sync_batch_norm import synchronised
from clear.registry import PLUGINS

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate
    from torch.utils.data import DataLoader

    from clear.engine.training.runner import Runner


def check_last_batches(cfg: dict, strategy: SupervisedTemplate, info: ScenarioInfo, device: torch.device) -> None:
    """Refuse a bucket that leaves a global batch of one sample, if the model cannot train on it.

    Looked at are the experiences in which batches are those of one bucket by what strategy and plugins declare
    (`Traits.unmixed_batches`). Only global batches count, also where processes share them: BatchNorm has the
    statistics of all processes then, so a process may have a single row of two.

    Raises:
        ConfigError: naming the bucket, and batch sizes that fit.
    """
    size, budget = cfg['cl_strategy']['train_mb_size'], cfg.get('max_iters_per_experience')
    counts = [len(dataset) for dataset in info.train[:_num_unmixed(cfg['cl_strategy'], strategy, len(info.train))]]
    found = [index for index, count in enumerate(counts) if _smallest(count, size, budget) == 1]
    sample = first_readable(info.train[0]) if found else None
    if sample is None:
        return
    reason = _refusal(strategy.model, lambda trial: trial(torch.stack([sample]).to(device)))
    if reason is None:
        return
    fitting = [other for other in range(2, 2 * size + 3) if all(_smallest(count, other) > 1 for count in counts)]
    nearest = sorted(sorted(fitting, key=lambda other: abs(other - size))[:3])
    advice = f"Sizes that fit every bucket: {', '.join(map(str, nearest))}." if nearest else 'No size of up to ' \
        f'{2 * size + 2} fits every bucket.'
    raise ConfigError(f'cl_strategy.train_mb_size is {size}, so a batch of bucket {found[0]} '
                      f"('{info.bucket_names[found[0]]}', {counts[found[0]]} samples) is a single sample, on which the "
                      f'model cannot train: {reason}. {advice} Larger images or freeze_bn=True help as well.')


def _num_unmixed(options: dict, strategy: SupervisedTemplate, num_buckets: int) -> int:
    """How many experiences, from the first on, have no batches but those of their bucket, as far as is declared."""
    added = {PLUGINS.require(plugin['type']) for plugin in options.get('plugins') or ()}
    kinds = {trait(strategy, 'unmixed_batches')}
    for plugin in strategy.plugins:
        kind = trait(plugin, 'unmixed_batches')
        if kind or type(plugin) in added:  # a strategy speaks for plugins that say nothing and are its own
            kinds.add(kind)
    return 0 if None in kinds else 1 if 'first' in kinds else num_buckets


def _smallest(count: int, size: int, budget: int | None = None) -> int:
    """Samples in the smallest batch that a pass over `count` of them meets within a budget of iterations."""
    whole, rest = divmod(count, size)
    return size if whole and (not rest or budget is not None and budget <= whole) else rest


def check_training_batch(runner: Runner) -> None:
    """Refuse batches of one sample per process in an ordinary run, if the model cannot train on them.

    Raises:
        ConfigError: naming batch sizes that fit.
    """
    loader, dataset, model = runner.train_dataloader, runner.train_dataloader.dataset, runner.bare_model
    size, smallest = loader.batch_size, smallest_of_epoch(loader)
    if smallest != 1:
        return
    blank = isinstance(dataset, SelfSupervisedImages)
    batch = default_collate([dataset.blank_sample()]) if blank else loader.collate_fn([dataset[0, 0]])

    def step(trial: nn.Module) -> None:
        with synchronised(1) if runner.has_cpu_sync_bn else nullcontext():
            losses = trial._run_forward(trial.data_preprocessor(batch, True), mode='loss')
        if not torch.isfinite(trial.parse_losses(losses)[0]):
            raise ValueError('its loss is no finite number')

    reason = _refusal(model, step)
    if reason is None:
        return
    count, world = len(loader.sampler), dist.world_size()
    where = f'train_dataloader.batch_size is {size}'
    if size > 1:
        where += f' x {world} process(es), so the last batch of {count} samples'
        advice = 'Leave drop_last=False out, or use a batch_size that leaves more.'
    else:
        where, advice = f'{where}: a batch', 'Use at least 2.'
    raise ConfigError(f'{where} is a single sample, on which {type(model).__name__} cannot train: {reason}. {advice}')


def smallest_of_epoch(loader: DataLoader) -> int | None:
    """Samples of this process in the smallest batch; None where the batches are not ours to count."""
    sampler = own_batch_sampler(loader)
    if not isinstance(sampler, GlobalBatchSampler):
        return loader.batch_size
    rest = len(sampler.sampler) % (sampler.batch_size * dist.world_size()) // dist.world_size()
    return sampler.batch_size if sampler.drop_last or not rest else rest


def _refusal(model: nn.Module, step: Callable[[nn.Module], object]) -> str | None:
    """What a copy of the model in train mode says to a step; None if it takes it. Nothing is left behind."""
    trial = copy.deepcopy(model).train()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), torch.no_grad():
        try:
            step(trial)
        except ValueError as error:
            return str(error).rstrip('.')
    return None
