"""The smallest batch of a training, tried before it begins: BatchNorm takes no single value per channel.

Only a batch of one sample can be refused for its size, so nothing is run where none will occur.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from mmengine.dataset import default_collate
from torch import nn

from clear.core import dist
from clear.core.errors import ConfigError
from clear.datasets import SelfSupervisedImages
from clear.datasets.loaders.samplers import GlobalBatchSampler
from clear.engine.training.loading import own_batch_sampler
from clear.engine.trial import refusal
from clear.models.sync_batch_norm import synchronised

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from clear.engine.training.runner import Runner


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

    reason = refusal(model, step)
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
