"""The keys of a continual config: defaults, and every check that needs no data."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable
from typing import Any

from clear.core.errors import ConfigError, nearest
from clear.core.signatures import accepted_arguments, check_keys

DEFAULTS: dict[str, Any] = dict(
    seed=0, num_workers=0, threads=None, device=None, frozen=[], freeze_bn=False, load_from=None, work_dir=None,
    name=None, loggers=[dict(type='TextLogger')],
    metrics=[dict(type='accuracy_metrics', epoch=True), dict(type='loss_metrics', epoch=True)],
    checkpoint_config=dict(interval=None), amp=False, report=True, max_iters_per_experience=None,
    max_time_per_experience=None)
REQUIRED = ('scenario', 'model', 'cl_strategy')
KNOWN = {*DEFAULTS, *REQUIRED, 'runner_type', 'default_scope', 'seeds'}
# A name of a config file that nobody reads and that is this like a known one is a misspelling, not a helper.
MISSPELT = 0.85
CHECKPOINT_KEYS = {'interval', 'iter_interval', 'max_keep'}
LOAD_FROM_KEYS = {'path', 'source', 'prefix_map', 'min_matched'}


def with_defaults(cfg: dict) -> dict[str, Any]:
    """A deep, plain copy of a config with the defaults of the keys that it leaves out."""
    filled = copy.deepcopy(DEFAULTS)
    filled.update(copy.deepcopy(cfg.to_dict() if hasattr(cfg, 'to_dict') else dict(cfg)))
    if isinstance(filled.get('cl_strategy'), dict):
        strategy = filled['cl_strategy']
        batch = strategy.get('train_mb_size', 1)
        for key, value in (('train_mb_size', 1), ('train_epochs', 1), ('eval_mb_size', batch)):
            strategy.setdefault(key, value)
    return filled


def check_options(options: Iterable[str], assigned: set[str], known: set[str] = KNOWN) -> None:
    """Refuse `--cfg-options` on a key that nobody reads.

    Args:
        options: keys as given, `a.b.c`.
        assigned: top-level names that the config file assigns.
        known: top-level names that the runner reads.

    Raises:
        ConfigError: with the nearest key; for a helper variable of the file, which was already used when the file
            was read, saying so.
    """
    for option in options:
        key = option.split('.')[0]
        if key in known:
            continue
        if key in assigned:
            raise ConfigError(f"--cfg-options {option}: '{key}' is a helper variable of the config file. Its value was "
                              'used when the file was read, so setting it now would change nothing; set the key that '
                              'it fills instead (tools/print_config.py shows them), e.g. cl_strategy.train_mb_size.')
        close = nearest(key, known)
        hint = f' Did you mean {close}?' if close else ''
        raise ConfigError(f"--cfg-options {option}: nobody reads '{key}'.{hint}")


def check_names(assigned: Iterable[str], known: set[str] = KNOWN) -> None:
    """Refuse a top-level name of a config file that nobody reads and that is this like one that is read.

    Others are helpers of the file, such as `batch_size`.

    Raises:
        ConfigError: with the nearest key.
    """
    for name in sorted(set(assigned) - known):
        if close := difflib.get_close_matches(name, known, 1, MISSPELT):
            raise ConfigError(f"The config assigns '{name}', which nobody reads. Did you mean '{close[0]}'?")


def check_continual_config(cfg: dict) -> None:
    """Refuse missing parts, unknown types and misspelt keys.

    Raises:
        ConfigError, RegistryError: with the nearest names.
    """
    from clear.continual.loggers import check_loggers_and_metrics
    from clear.continual.strategies import build

    for key in REQUIRED:
        if not isinstance(cfg.get(key), dict):
            raise ConfigError(f"A continual config needs '{key}', a dict; got {cfg.get(key)!r}.")
    _check_numbers(cfg)
    _check_scenario(cfg['scenario'])
    _check_model(cfg['model'])
    build.check_strategy(cfg['cl_strategy'])
    check_loggers_and_metrics(cfg['loggers'], cfg['metrics'])
    check_keys('checkpoint_config', cfg['checkpoint_config'] or {}, CHECKPOINT_KEYS, 'checkpoint_config')
    for key in ('interval', 'iter_interval', 'max_keep'):
        _whole(f'checkpoint_config.{key}', (cfg['checkpoint_config'] or {}).get(key), 1)
    if isinstance(cfg['load_from'], dict):
        check_keys('load_from', cfg['load_from'], LOAD_FROM_KEYS, 'load_from')
    elif cfg['load_from'] is not None and not isinstance(cfg['load_from'], str):
        raise ConfigError(f"load_from is {cfg['load_from']!r}; expected a path, or a dict with path.")


def _check_numbers(cfg: dict) -> None:
    if not isinstance(cfg['seed'], int) or isinstance(cfg['seed'], bool) or cfg['seed'] < 0:
        raise ConfigError(f"seed is {cfg['seed']!r}; expected a whole number of at least 0.")
    _whole('num_workers', cfg['num_workers'], 0)
    _whole('max_iters_per_experience', cfg['max_iters_per_experience'], 1)
    seconds = cfg['max_time_per_experience']
    if seconds is not None and (not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or seconds <= 0):
        raise ConfigError(f'max_time_per_experience is {seconds!r}; expected seconds, a number above 0.')
    if cfg['amp'] not in (False, True, 'bf16', 'fp16'):
        raise ConfigError(f"amp is {cfg['amp']!r}; expected False, True, 'bf16' or 'fp16'.")
    _whole('threads', cfg['threads'], 1)
    for key in ('freeze_bn', 'report'):
        if not isinstance(cfg[key], bool):
            raise ConfigError(f'{key} is {cfg[key]!r}; expected True or False.')
    for key in ('loggers', 'metrics', 'frozen'):
        if not isinstance(cfg[key], (list, tuple)):
            raise ConfigError(f'{key} is {cfg[key]!r}; expected a list.')


def _whole(where: str, value: Any, least: int) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise ConfigError(f'{where} is {value!r}; expected a whole number of at least {least}.')


def _check_scenario(scenario: dict) -> None:
    from clear.continual.scenarios import scenario_arguments

    if 'type' not in scenario:
        raise ConfigError("scenario needs a type, e.g. 'CLEAR'.")
    check_keys('scenario', set(scenario) - {'type'}, scenario_arguments(scenario['type']), scenario['type'])


def _check_model(model: dict) -> None:
    from clear.registry import MODELS

    # mmpretrain's base configs call the same composition ImageClassifier.
    name = model.get('type', 'ComposedClassifier')
    owner = MODELS.require('ComposedClassifier' if name == 'ImageClassifier' else name)
    check_keys('model', set(model) - {'type'}, accepted_arguments(owner), owner.__name__)
    for part in ('backbone', 'neck', 'head'):
        cfg = model.get(part)
        if isinstance(cfg, dict) and 'type' in cfg:
            cls = MODELS.require(cfg['type'])
            check_keys(f'model.{part}', set(cfg) - {'type'}, accepted_arguments(cls), cfg['type'])
