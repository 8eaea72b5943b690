"""The keys of a continual config: defaults, and every check that needs no data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clear.core.checks import check_choice, check_flag, check_number, check_shared_keys, check_text, check_whole
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError
from clear.engine.schema import check_load_from, filled_in

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.core.types import Options

DEFAULTS: Options = dict(
    seed=0, num_workers=0, threads=None, device=None, frozen=[], freeze_bn=False, load_from=None, work_dir=None,
    name=None, loggers=[dict(type='TextLogger')],
    metrics=[dict(type='accuracy_metrics', epoch=True), dict(type='loss_metrics', epoch=True)],
    checkpoint_config=dict(interval=None), amp=False, report=True, max_iters_per_experience=None,
    max_time_per_experience=None, lane=True)
REQUIRED = ('scenario', 'model', 'cl_strategy')
KNOWN = {*DEFAULTS, *REQUIRED, 'runner_type', 'default_scope', 'seeds', 'sweep'}
CHECKPOINT_KEYS = {'interval', 'iter_interval', 'max_keep'}


def with_defaults(cfg: Config | dict) -> dict[str, Any]:
    """A deep, plain copy of a config with the defaults of the keys that it leaves out."""
    filled = filled_in(cfg, DEFAULTS)
    if isinstance(filled.get('cl_strategy'), dict):
        strategy = filled['cl_strategy']
        batch = strategy.get('train_mb_size', 1)
        for key, value in (('train_mb_size', 1), ('train_epochs', 1), ('eval_mb_size', batch)):
            strategy.setdefault(key, value)
    return filled


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
    _check_values(cfg)
    _check_scenario(cfg['scenario'])
    _check_model(cfg['model'])
    build.check_strategy(cfg['cl_strategy'])
    check_loggers_and_metrics(cfg['loggers'], cfg['metrics'])


def _check_values(cfg: dict) -> None:
    check_shared_keys(cfg)
    if cfg['max_iters_per_experience'] is not None:
        check_whole('max_iters_per_experience', cfg['max_iters_per_experience'], 1)
    if cfg['max_time_per_experience'] is not None:
        check_number('max_time_per_experience, in seconds,', cfg['max_time_per_experience'], above=0)
    check_choice('amp', cfg['amp'], (False, True, 'bf16', 'fp16'))
    for key in ('freeze_bn', 'report', 'lane'):
        check_flag(key, cfg[key])
    for key in ('loggers', 'metrics', 'frozen'):
        if not isinstance(cfg[key], (list, tuple)):
            raise ConfigError(f'{key} is {cfg[key]!r}; expected a list.')
    options = cfg['checkpoint_config']
    if options is not None and not isinstance(options, dict):
        raise ConfigError(f'checkpoint_config is {options!r}; expected a dict such as dict(interval=1).')
    check_keys('checkpoint_config', options or {}, CHECKPOINT_KEYS, 'checkpoint_config')
    for key, value in (options or {}).items():
        if value is not None:
            check_whole(f'checkpoint_config.{key}', value, 1)
    check_load_from(cfg['load_from'])


def _check_scenario(scenario: dict) -> None:
    from clear.continual.scenarios import scenario_arguments
    from clear.datasets.images.decode import DECODERS

    if 'type' not in scenario:
        raise ConfigError("scenario needs a type, e.g. 'CLEAR'.")
    check_text('scenario.type', scenario['type'])
    check_keys('scenario', set(scenario) - {'type'}, scenario_arguments(scenario['type']), scenario['type'])
    # Runs on stored features read no image, but the keys of one must still mean something.
    if 'max_bad_fraction' in scenario:
        check_number('scenario.max_bad_fraction', scenario['max_bad_fraction'], 0, 1)
    if 'decoder' in scenario:
        check_choice('scenario.decoder', scenario['decoder'], DECODERS)
    for key in ('data_root', 'root'):
        if key in scenario:
            check_text(f'scenario.{key}', scenario[key])


def _check_model(model: dict) -> None:
    from clear.registry import MODELS

    # mmpretrain's base configs call the same composition ImageClassifier.
    name = check_text('model.type', model.get('type', 'ComposedClassifier'))
    owner = MODELS.require('ComposedClassifier' if name == 'ImageClassifier' else name)
    check_keys('model', set(model) - {'type'}, accepted_arguments(owner), owner.__name__)
    for part in ('backbone', 'neck', 'head'):
        cfg = model.get(part)
        if isinstance(cfg, dict) and 'type' in cfg:
            cls = MODELS.require(check_text(f'model.{part}.type', cfg['type']))
            check_keys(f'model.{part}', set(cfg) - {'type'}, accepted_arguments(cls), cfg['type'])
