"""Which continual configs a lane can train, and why it cannot train the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from clear.continual.lane.objectives import OBJECTIVES
from clear.continual.lane.updates import UPDATES
from clear.continual.strategies.build import build_loss, torch_class
from clear.continual.training.traits import trait
from clear.core import dist
from clear.registry import STRATEGIES

if TYPE_CHECKING:
    from clear.core.types import Options

LOGGERS = frozenset({'TextLogger', 'CSVLogger', 'TensorboardLogger'})
METRICS = frozenset({'accuracy_metrics', 'loss_metrics'})
# Memories that hold equally many samples whatever was drawn, and choose them without looking at the model.
MEMORIES = frozenset({'ReservoirSamplingBuffer', 'ExperienceBalancedBuffer', 'ClassBalancedBuffer',
                      'BiasedReservoirSamplingBuffer'})
HEADS = frozenset({'LinearClsHead', 'StackedLinearClsHead'})


def obstacle(cfg: Options) -> str | None:
    """Why several runs of this config cannot be trained in a lane, as a part of a sentence; None if they can.

    Args:
        cfg: a checked continual config with its defaults.
    """
    return next(_obstacles(cfg), None)


def differing_keys(cfg: Options) -> set[str]:
    """The keys, as `cl_strategy.optimizer.lr`, whose values may differ between the runs of a lane."""
    options = cfg['cl_strategy']
    update = UPDATES.get(torch_class(options['optimizer']['type'], torch.optim, 'optimizer'))
    objective = OBJECTIVES.get(trait(STRATEGIES.require(options['type']), 'lane_objective'))
    return {f'cl_strategy.optimizer.{key}' for key in (update.DIFFERS if update else ())} | \
        {f'cl_strategy.{key}' for key in (objective.DIFFERS if objective else ())}


def _obstacles(cfg: Options) -> Iterator[str]:
    if cfg.get('lane') is False:
        yield 'lane=False'
    if dist.world_size() > 1:
        yield f'there are {dist.world_size()} processes'
    if torch.device(_device(cfg)).type != 'cpu':
        yield 'it runs on a GPU'
    for key in ('amp', 'frozen', 'freeze_bn', 'max_iters_per_experience', 'max_time_per_experience'):
        if cfg.get(key):
            yield f'it has {key}'
    if (cfg.get('checkpoint_config') or {}).get('iter_interval'):
        yield 'it has checkpoint_config.iter_interval'
    for logger in cfg['loggers']:
        if logger['type'] not in LOGGERS:
            yield f'the logger {logger["type"]} looks at every iteration'
    for metric in cfg['metrics']:
        if metric['type'] not in METRICS or {key for key, value in metric.items() if value} != {'type', 'epoch'}:
            yield f'the metric {metric["type"]} looks at more than the accuracy and loss of an epoch'
    yield from _of_strategy(cfg['cl_strategy'])
    yield from _of_model(cfg['model'])


def _device(cfg: Options) -> str:
    from clear.core.programs.startup import choose_device

    return str(choose_device(cfg.get('device')))


def _of_strategy(options: Options) -> Iterator[str]:
    kind = options['type']
    if trait(STRATEGIES.require(kind), 'lane_objective') not in OBJECTIVES:
        yield f'the strategy is {kind}'
        return
    if options.get('plugins'):
        yield 'it has cl_strategy.plugins'
    if type(build_loss(options.get('loss'))) is not nn.CrossEntropyLoss or len(options.get('loss') or {}) > 2:
        yield f'the loss is {options["loss"]["type"]}'
    if options.get('task_balanced_dataloader'):
        yield 'it has cl_strategy.task_balanced_dataloader'
    memory = options.get('storage_policy')
    if isinstance(memory, dict) and (memory['type'] not in MEMORIES or memory.get('legacy')):
        yield f'the memory is {memory["type"]}{" with legacy=True" if memory.get("legacy") else ""}'
    if options.get('legacy'):
        yield 'it has cl_strategy.legacy'
    optimizer = options['optimizer']
    update = UPDATES.get(torch_class(optimizer['type'], torch.optim, 'optimizer'))
    if update is None:
        yield f'the optimiser is {optimizer["type"]}'
    elif more := sorted(set(optimizer) - update.TAKES - {'type'}):
        yield f'the optimiser has {more[0]}'


def _of_model(model: Options) -> Iterator[str]:
    head = model.get('head')
    kind = head.get('type') if isinstance(head, dict) else None
    if model.get('type', 'ComposedClassifier') not in ('ComposedClassifier', 'ImageClassifier'):
        yield f'the model is {model["type"]}'
    elif model.get('backbone') or model.get('neck'):
        yield 'the model is more than a head on features'
    elif kind not in HEADS:
        yield f'the head is {kind}'
    elif kind == 'StackedLinearClsHead':
        activation = head.get('act_cfg', dict(type='ReLU'))
        if head.get('dropout_rate') or head.get('norm_cfg') or activation not in (None, dict(type='ReLU')):
            yield 'the head has dropout, normalisation or an activation other than ReLU'
