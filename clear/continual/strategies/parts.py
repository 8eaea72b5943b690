"""Parts of a strategy that are configs inside `cl_strategy`: plugins, memories, selection rules, losses."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Set

from torch import nn

from clear.continual.repairs.losses import LOSSES
from clear.continual.repairs.split_model import with_eval_classifier
from clear.continual.training.traits import trait
from clear.core.checks import check_whole
from clear.core.configs.building import BUILD_ERRORS, reason
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.contracts import PreparesModel
from clear.core.errors import ConfigError, RegistryError
from clear.registry import BUFFERS, MODELS, PLUGINS

# Arguments that are themselves a dict with a type, with the registry they are built from.
NESTED = {'buffer': BUFFERS, 'storage_policy': BUFFERS, 'selection_strategy': BUFFERS}
# Sizes of memories and of their batches, by the names that strategies, plugins and memories give them.
SIZES = ('mem_size', 'memory_size', 'max_size', 'patterns_per_exp', 'patterns_per_experience', 'max_buffer_size',
         'rm_sz', 'batch_size_mem', 'buffer_mb_size', 'sample_size', 'subsample', 'batch_size', 'mem_strength',
         'replay_size')
_LOSS_MODULE = 'avalanche.training.losses'


def check_parts(where: str, cfg: dict) -> None:
    """Refuse unknown types and keys in the nested configs of a strategy, a plugin or a buffer.

    Raises:
        ConfigError, RegistryError: with the nearest names, or for a memory or batch of no whole number of samples.
    """
    for key in SIZES:
        if cfg.get(key) is not None:
            check_whole(f'{where}.{key}', cfg[key], 1)
    for key, registry in NESTED.items():
        if isinstance(cfg.get(key), dict):
            _check_part(f'{where}.{key}', cfg[key], registry)
    plugins = cfg.get('plugins') or []
    if not isinstance(plugins, (list, tuple)):
        raise ConfigError(f'{where}.plugins is {plugins!r}; expected a list of dicts with a type.')
    for position, plugin in enumerate(plugins):
        place = f'{where}.plugins[{position}]'
        kind = _kind(plugin)
        cls = None if kind is None else PLUGINS.require(kind)
        if cls and (instead := trait(cls, 'built_in')):
            # A second one would count or evaluate twice.
            raise ConfigError(f'{place}: every strategy has {kind} already; {instead}.')
        brings = cls and trait(cls, 'eval_classifier')
        _check_part(place, plugin, PLUGINS, {'classifier'} if brings else set())


def _check_part(where: str, cfg: object, registry, own: Set[str] = frozenset()) -> None:
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise ConfigError(f'{where} needs a dict with a type, got {cfg!r}.')
    cls = registry.require(cfg['type'])
    if inspect.isabstract(cls):
        raise ConfigError(f"{where}: {cfg['type']} is abstract; use one of its kinds.")
    accepted = accepted_arguments(cls)
    filled = {'model'} if _takes_model(cls, registry) else set()
    check_keys(where, set(cfg) - {'type'}, None if accepted is None else (accepted - filled) | own, cfg['type'])
    check_parts(where, {key: value for key, value in cfg.items() if key != 'plugins'})


def _kind(cfg: object) -> str | None:
    kind = cfg.get('type') if isinstance(cfg, dict) else None
    return kind if isinstance(kind, str) else None  # anything else is refused by the registry


def build_nested(where: str, arguments: dict, model: nn.Module) -> dict[str, object]:
    """`arguments` with the nested configs of memories and selection rules built; ready objects stay."""
    return {key: _build(f'{where}.{key}', value, NESTED[key], model)
            if key in NESTED and isinstance(value, dict) else value for key, value in arguments.items()}


def build_plugins(cfgs: list[dict] | None, model: nn.Module) -> list:
    """The plugins of `cl_strategy.plugins`, in order; the model is made to show what they read.

    Raises:
        ConfigError: if one does not accept its arguments, or the model does not show what it reads.
    """
    plugins = []
    for position, cfg in enumerate(cfgs or []):
        kind, options = cfg['type'], dict(cfg)
        classifier = trait(PLUGINS.require(kind), 'eval_classifier')
        if classifier is not None:
            with_eval_classifier(model, classifier, kind, **(options.pop('classifier', None) or {}))
        plugin = _build(f'cl_strategy.plugins[{position}]', options, PLUGINS, model)
        if isinstance(plugin, PreparesModel):
            plugin.prepare_model(model)
        plugins.append(plugin)
    return plugins


def _build(where: str, cfg: dict, registry, model: nn.Module) -> object:
    options = build_nested(where, {key: value for key, value in cfg.items() if key != 'type'}, model)
    cls = registry.require(cfg['type'])
    if _takes_model(cls, registry):
        options['model'] = model
    try:
        # Called, not `registry.build`: that copies its config, and these hold the live model and ready objects.
        return cls(**options)
    except BUILD_ERRORS as error:
        raise ConfigError(f"{where} ({cfg['type']}): {reason(error)}") from error


def _takes_model(cls: type, registry) -> bool:
    """Memories and selection rules that look at features take the live model, which no config can name."""
    return registry is BUFFERS and 'model' in (accepted_arguments(cls) or ())


def loss_class(name: str) -> type:
    """The loss `name`: of our registries, else one of Avalanche's helpers, repaired where it has to be.

    Raises:
        RegistryError: if there is none.
    """
    found = MODELS.get(name) or LOSSES.get(name)
    if found is None:
        module = importlib.import_module(_LOSS_MODULE)
        found = getattr(module, name, None) if name in module.__all__ else None
    if found is None:
        try:
            MODELS.require(name)
        except RegistryError as error:
            raise RegistryError(f'cl_strategy.loss: {error}') from error
    return found
