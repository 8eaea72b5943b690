"""From `cl_strategy` in a config to an Avalanche strategy under our mix-in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Set
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from clear.continual.strategies.parts import build_nested, build_plugins, check_parts, loss_class
from clear.continual.training.mixin import EngineMixin
from clear.continual.training.schedule import POLICIES, SchedulePlugin
from clear.continual.training.traits import trait, with_traits
from clear.core import dist
from clear.core.checks import check_choice, check_number, check_scheduler, check_text, check_whole
from clear.core.configs.building import BUILD_ERRORS, reason
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError
from clear.registry import MODELS, OPTIMIZERS, PARAM_SCHEDULERS, STRATEGIES, RegistryError

# Keys of `cl_strategy` that are ours; all others are arguments of the strategy class.
OWN_KEYS = {'type', 'optimizer', 'scheduler', 'loss', 'optimizer_policy', 'scheduler_policy', 'plugins'}
# Arguments of the strategy class that the runner fills.
FILLED = {'model', 'criterion', 'device', 'plugins', 'evaluator', 'eval_every', 'peval_mode', 'optimizer'}


def strategy_class(name: str) -> type:
    """Avalanche's (or our) strategy class of that name, with the mix-in first and `Traits` last among its bases."""
    base = STRATEGIES.require(name)
    if not inspect.isclass(base) or not hasattr(base, 'train'):
        raise ConfigError(f"cl_strategy.type '{name}' is no strategy.")
    return with_traits(EngineMixin, base)


def torch_class(name: str, module, what: str) -> type:
    """The optimiser or scheduler class `name`: ours, else of that torch module; or one of any module, by its path.

    Raises:
        RegistryError: if there is none, with the nearest names.
        ConfigError: if what a module has by that name is another kind of class.
    """
    from clear.core.errors import nearest

    if '.' in name:
        registry, kind = (OPTIMIZERS, Optimizer) if what == 'optimizer' else (PARAM_SCHEDULERS, LRScheduler)
        found = registry.require(name)
        if not (inspect.isclass(found) and issubclass(found, kind)):
            raise ConfigError(f"cl_strategy.{what}: {name} is no {kind.__name__} of torch's.")
        return found
    found = OPTIMIZERS.get_own(name) if what == 'optimizer' else None
    found = found or getattr(module, name, None)
    if found is None or not inspect.isclass(found):
        known = [item for item in dir(module) if inspect.isclass(getattr(module, item)) and not item.startswith('_')]
        raise RegistryError(f"cl_strategy.{what}: no type '{name}'. Nearest: {nearest(name, known) or known} "
                            f'({module.__name__}).')
    return found


def check_strategy(cfg: dict) -> None:
    """Refuse unknown types and keys in `cl_strategy`, before anything is built.

    Raises:
        ConfigError, RegistryError: with the nearest names.
    """
    if 'type' not in cfg:
        raise ConfigError("cl_strategy needs a type, e.g. 'Naive' or 'Replay'.")
    cls = STRATEGIES.require(check_text('cl_strategy.type', cfg['type']))
    accepted = accepted_arguments(cls)
    check_keys('cl_strategy', cfg, None if accepted is None else (accepted - FILLED) | OWN_KEYS, cfg['type'])
    for key in ('train_mb_size', 'eval_mb_size', 'train_epochs'):
        check_whole(f'cl_strategy.{key}', cfg.get(key, 1), 1)
    for key in ('optimizer_policy', 'scheduler_policy'):
        check_choice(f'cl_strategy.{key}', cfg.get(key, 'reset'), POLICIES)
    if trait(cls, 'needs_optimizer'):
        _check_part(cfg, 'optimizer', torch.optim, {'params'})
        for key in ('lr', 'weight_decay', 'momentum'):
            if cfg['optimizer'].get(key) is not None:
                check_number(f'cl_strategy.optimizer.{key}', cfg['optimizer'][key])
        if cfg.get('scheduler'):
            _check_part(cfg, 'scheduler', torch.optim.lr_scheduler, {'optimizer'}, {'by_epoch'})
            check_scheduler('cl_strategy.scheduler', cfg['scheduler'])
    _check_loss(cls, cfg.get('loss'))
    check_parts('cl_strategy', cfg)


def _check_loss(cls: type, loss: object) -> None:
    if not loss:
        return
    if trait(cls, 'own_loss') is True:
        raise ConfigError(f'cl_strategy.loss: {cls.__name__} is defined by its own loss; leave this key out.')
    if not isinstance(loss, dict) or 'type' not in loss:
        raise ConfigError(f'cl_strategy.loss needs a dict with a type, got {loss!r}.')
    check_text('cl_strategy.loss.type', loss['type'])
    accepted = accepted_arguments(loss_class(loss['type']))
    check_keys('cl_strategy.loss', set(loss) - {'type'}, accepted, loss['type'])


def _check_part(cfg: dict, what: str, module, filled: set[str], own: Set[str] = frozenset()) -> None:
    part = cfg.get(what)
    if not isinstance(part, dict) or 'type' not in part:
        raise ConfigError(f"cl_strategy.{what} needs a dict with a type, got {part!r}.")
    accepted = accepted_arguments(torch_class(check_text(f'cl_strategy.{what}.type', part['type']), module, what))
    check_keys(f'cl_strategy.{what}', set(part) - {'type'},
               None if accepted is None else (accepted - filled) | own, part['type'])


def check_distributed(cfg: dict, world_size: int) -> None:
    """Refuse what several processes cannot divide.

    Raises:
        ConfigError: if a batch has fewer samples than processes.
    """
    size = cfg.get('train_mb_size', 1)
    if size < world_size:
        raise ConfigError(f'cl_strategy.train_mb_size is {size}, the global batch, but there are {world_size} '
                          f'processes: some would have no sample. Use at least {world_size}.')


def build_loss(cfg: dict | None) -> Callable[[Tensor, Tensor], Tensor]:
    """The criterion of `cl_strategy.loss`, called with (logits, targets); cross-entropy by default."""
    cfg = cfg or dict(type='CrossEntropyLoss', loss_weight=1.0)
    if cfg['type'] == 'CrossEntropyLoss' and cfg.get('loss_weight', 1.0) == 1.0 and set(cfg) <= {'type', 'loss_weight'}:
        return nn.CrossEntropyLoss()  # the same, without mmpretrain's options to go through for every batch
    if MODELS.get(cfg['type']) is not None:
        return MODELS.build(cfg)
    return loss_class(cfg['type'])(**{key: value for key, value in cfg.items() if key != 'type'})


def build_optimizer(cfg: dict, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of `cl_strategy.optimizer` over all parameters; frozen ones get no gradient and stay."""
    options = {key: value for key, value in cfg.items() if key != 'type'}
    try:
        return torch_class(cfg['type'], torch.optim, 'optimizer')(model.parameters(), **options)
    except BUILD_ERRORS as error:
        raise ConfigError(f"cl_strategy.optimizer ({cfg['type']}): {reason(error)}") from error


def build_schedule(cfg: dict) -> SchedulePlugin:
    """The plugin that steps `cl_strategy.scheduler`."""
    scheduler = dict(cfg.get('scheduler') or {})
    policy = cfg.get('scheduler_policy', 'reset')
    if not scheduler:
        return SchedulePlugin(None, policy)
    by_epoch = scheduler.pop('by_epoch', True)
    cls = torch_class(scheduler.pop('type'), torch.optim.lr_scheduler, 'scheduler')
    return SchedulePlugin(partial(_make_scheduler, cls, scheduler), policy, by_epoch)


def _make_scheduler(cls: type, options: dict, optimizer: torch.optim.Optimizer):
    try:
        return cls(optimizer, **options)
    except BUILD_ERRORS as error:
        raise ConfigError(f'cl_strategy.scheduler ({cls.__name__}): {reason(error)}') from error


def build_strategy(cfg: dict, model: nn.Module, *, device: torch.device, evaluator=None):
    """Build the strategy that `cl_strategy` describes; `cfg` is not changed.

    Args:
        cfg: `type`, `optimizer`, `scheduler`, `loss`, the policies, `plugins` (dicts with a type, run after the
            schedule), and arguments of the strategy class.
        model: maps a batch to (N, C) logits; stays unwrapped. A strategy that needs more of it says so in
            `prepare_model`, so `strategy.model` may differ from it.
        device: where training runs.
        evaluator: an Avalanche `EvaluationPlugin`; None computes no Avalanche metrics.

    Raises:
        ConfigError, RegistryError: for unknown names, keys or values.
    """
    check_strategy(cfg)
    check_distributed(cfg, dist.world_size())
    cls = strategy_class(cfg['type'])
    schedule = build_schedule(cfg)
    arguments = {key: _plain(value) for key, value in cfg.items() if key not in OWN_KEYS}
    model = trait(cls, 'prepare_model')(model, device=device, **arguments)
    plugins = [schedule, *build_plugins(_plain(cfg.get('plugins')), model)]
    arguments = build_nested('cl_strategy', arguments, model)
    filled = dict(model=model, device=device, plugins=plugins, evaluator=evaluator)
    if trait(cls, 'needs_optimizer'):
        filled['optimizer'] = build_optimizer(cfg['optimizer'], model)
    if cfg.get('loss') or (not trait(cls, 'own_loss') and trait(cls, 'needs_optimizer')):
        filled['criterion'] = build_loss(cfg.get('loss'))
    try:
        strategy = cls(**filled, **arguments)
    except BUILD_ERRORS as error:
        raise ConfigError(f"cl_strategy ({cfg['type']}): {reason(error)}") from error
    strategy.schedule = schedule
    return strategy


def _plain(value: object) -> object:
    # Avalanche tests `isinstance(value, (list, tuple))`; a config holds its own list and dict types.
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
