"""Before training: do data, model and strategy fit, on which device, and how much work is it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.data import Dataset

from clear.continual.metrics import CLEAR_METRICS, OVERLAPPED_METRICS, clear_metrics, without_unseen
from clear.continual.multitask import MultiTaskMixin, call, grows
from clear.continual.scenarios import ScenarioInfo
from clear.continual.scenarios.base import TensorBucket
from clear.continual.strategies.build import strategy_class
from clear.continual.training.traits import trait
from clear.core import dist
from clear.core.errors import ConfigError
from clear.core.logs import logger
from clear.core.modes import evaluation_mode
from clear.datasets import BadSampleError
from clear.datasets.readers.clear.lacking_classes import quoted
from clear.engine.trial import refusal
from clear.models.classifier import ComposedClassifier
from clear.registry import PLUGINS

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate


def check_fit(cfg: dict, model: nn.Module, info: ScenarioInfo, device: torch.device) -> None:
    """Refuse a model, a strategy and data that do not fit each other.

    Raises:
        ConfigError: saying which two values disagree and what to set.
    """
    _check_tasks(model, info)
    if not grows(model) and model.num_classes != info.num_classes:
        raise ConfigError(f'model.head has num_classes={model.num_classes}, but the data have {info.num_classes} '
                          f"classes ({', '.join(info.class_names[:4])}, ...). Set "
                          f'model.head.num_classes={info.num_classes}.')
    strategy = strategy_class(cfg['cl_strategy']['type'])
    check_one_head(model, strategy, f"cl_strategy.type {cfg['cl_strategy']['type']}")
    if not strategy.is_classifier:
        raise ConfigError(f"cl_strategy.type {cfg['cl_strategy']['type']} trains a generator, which classifies "
                          'nothing: a run has no accuracy to measure. GenerativeReplay trains one beside a classifier.')
    _check_forward(model, info, device)
    _check_strategy_fits(strategy, cfg['cl_strategy'], len(info.train))


def _check_tasks(model: nn.Module, info: ScenarioInfo) -> None:
    """Refuse a model with a head for each task where the stream names none.

    Raises:
        ConfigError: saying what to set.
    """
    if not isinstance(model, MultiTaskMixin):
        return
    if info.task_labels is None:
        raise ConfigError('The model has a head for each task, but the scenario names no tasks. Set scenario.'
                          'task_labels=True (experience i is task i) or a list of labels, for a classic of Avalanche '
                          'scenario.return_task_id=True, or take a head such as LinearClsHead.')
    if info.rest is not None:
        raise ConfigError("scenario.evaluation_protocol='both' measures buckets before their time, for which a model "
                          "with a head for each task has no head yet. Use 'iid'.")


def warn_of_unseen(info: ScenarioInfo, is_joint: bool) -> None:
    """Say which of CLEAR's metrics a run will not give, because classes come later than a bucket is tested."""
    if is_joint or info.unseen is None:
        return
    place = next(j for j in range(len(info.test)) if info.unseen[0][j])
    new = sorted(set(info.test[place].targets) - set(info.train[0].targets))
    values = clear_metrics(without_unseen([[0.0] * len(row) for row in info.unseen], info.unseen), info.protocol)
    absent = [name for name in CLEAR_METRICS if values[name] is None and (
        info.protocol != 'streaming' or name not in OVERLAPPED_METRICS)]
    logger.warning("Not all classes are there from the first bucket on: '%s' tests %s, which '%s' does not train on. "
                   'The matrix is measured; metrics that would compare classes nobody has seen are not given: %s.',
                   info.column_names[place], quoted([info.class_names[label] for label in new]), info.bucket_names[0],
                   ', '.join(absent) or 'none')


def check_one_head(model: nn.Module, part: object, name: str) -> None:
    """Refuse a model with a head for each task beside a strategy or plugin that is for one head."""
    if isinstance(model, MultiTaskMixin) and trait(part, 'one_head'):
        raise ConfigError(f'{name} is for models with one head; this one has a head for each task.')


def _check_forward(model: nn.Module, info: ScenarioInfo, device: torch.device) -> None:
    for key, dataset in (('train_transform', info.train[0]), ('eval_transform', info.test[0])):
        sample = first_readable(dataset)
        if sample is None:
            continue
        if not isinstance(sample, torch.Tensor) or not sample.is_floating_point():
            raise ConfigError(f'scenario.{key} gives {_kind(sample)}, but the model takes floating-point tensors. '
                              "Is dict(type='ToTensor') missing?")
        try:
            with evaluation_mode(model):
                call(model, torch.stack([sample, sample]).to(device), _first_task(model))
        except RuntimeError as error:
            raise ConfigError(f'The model cannot take the data: an input of shape {tuple(sample.shape)} from scenario.'
                              f'{key} gives "{error}". Compare head.in_channels, the backbone and the transforms.'
                              ) from error


def _first_task(model: nn.Module) -> int | None:
    """A task whose head a model has from the start, if it is told tasks."""
    return 0 if isinstance(model, MultiTaskMixin) else None


def first_readable(dataset: Dataset) -> object | None:
    """The first input that can be read; None if there is none among the first ten."""
    for row in range(min(len(dataset), 10)):
        try:
            return dataset[row][0]
        except BadSampleError:
            continue
    return None


def _kind(sample: object) -> str:
    return f'a tensor of {sample.dtype}' if isinstance(sample, torch.Tensor) else f'a {type(sample).__name__}'


def _check_strategy_fits(strategy: type, options: dict, size: int) -> None:
    if strategy.is_cumulative and options['train_mb_size'] < size:
        raise ConfigError(f"{options['type']} divides each batch over the buckets seen so far: cl_strategy."
                          f"train_mb_size is {options['train_mb_size']}, but there are {size} buckets. Use at least "
                          f'{size}.')
    strategy.check_stream(options, size)


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
    reason = refusal(strategy.model, lambda trial: call(trial, torch.stack([sample]).to(device), _first_task(trial)))
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


def planned_iterations(cfg: dict, info: ScenarioInfo) -> list[int]:
    """Training iterations of each experience; an estimate for strategies that rebalance their batches."""
    options, sizes = cfg['cl_strategy'], [len(dataset) for dataset in info.train]
    strategy = strategy_class(options['type'])
    if strategy.is_cumulative:
        sizes = [sum(sizes[:index + 1]) for index in range(len(sizes))]
    if strategy.is_joint:
        sizes = sizes[-1:]
    limit = strategy.samples_at_most(options)
    if limit is not None:
        sizes = [min(size, limit) for size in sizes]
    budget = cfg.get('max_iters_per_experience') or math.inf
    return [min(math.ceil(size / options['train_mb_size']) * options['train_epochs'], budget) for size in sizes]


def describe(cfg: dict, model: nn.Module, info: ScenarioInfo, iterations: list[int], device: torch.device,
             work_dir: Path | None) -> str:
    """What a run will do: data, model, steps, memory, disk."""
    options, scenario = cfg['cl_strategy'], cfg['scenario']
    parameters = list(model.parameters())
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    data = sum(dataset.inputs.nbytes for dataset in (*info.train, *info.test) if isinstance(dataset, TensorBucket))
    interval = (cfg['checkpoint_config'] or {}).get('interval')
    files = 1 + (len(info.train) // interval if interval else 0)
    # A gradient and one optimiser state, of 4 bytes each; activations depend on the model and are not counted.
    memory = weights + 8 * trainable + data
    return '\n'.join([
        f"data      {scenario['type']} {scenario.get('data_name') or ''}  protocol {info.protocol}  "
        f'{len(info.train)} buckets  {info.num_classes} classes  {sum(map(len, info.train))} training and '
        f'{sum(map(len, info.test))} test samples',
        f'model     {sum(parameter.numel() for parameter in parameters):,} parameters, {trainable:,} trained',
        f"training  {options['type']}  about {sum(iterations):,} iterations  {options['train_epochs']} epochs  global "
        f"batch {options['train_mb_size']}  {dist.world_size()} process(es) on {device.type}  {_precision(model)}",
        f'memory    about {memory / 2**20:,.0f} MiB without activations',
        f'disk      about {files * (weights + 4 * trainable) / 2**20:,.0f} MiB of checkpoints',
        f'work_dir  {work_dir}'])


def _precision(model: nn.Module) -> str:
    """What the model computes in, as `set_precision` left it."""
    dtype = next((module.amp_dtype for module in model.modules() if isinstance(module, ComposedClassifier)), None)
    return 'float32' if dtype is None else f"mixed precision ({str(dtype).removeprefix('torch.')})"
