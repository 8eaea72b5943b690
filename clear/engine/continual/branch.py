"""What a branch takes over from another run, and what it takes from its own config.

A checkpoint holds what its strategy held before it saw anything (`settings`); where that equals what this run's
strategy holds now, the strategy goes on with what was learned, elsewhere with the setting of this run. The config that
a checkpoint holds is compared, never built: a file must not choose what is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clear.continual.state import settings_of, strategy_state, with_settings
from clear.core.errors import CheckpointError, ClearError
from clear.core.seeding import derive_seed, seed_everything
from clear.models import build_classifier

# Of `cl_strategy`: what a branch may change as it likes, because no strategy holds it among its settings.
_FREE = ('optimizer', 'scheduler', 'loss', 'optimizer_policy', 'scheduler_policy')
# Parts of a strategy's state that hold settings; the schedule is forgotten, and metrics are compared by name.
SETTINGS = ('plugins', 'fields', 'model_extras')
_MISSING = object()


def remembered(runner: Any, path: Path, checkpoint: dict[str, Any], fresh: dict[str, Any], index: Any
               ) -> dict[str, Any]:
    """What another run's strategy remembers, with memory sizes, factors and the like of this run's config.

    Args:
        fresh: `strategy_state` of this run's strategy, which saw nothing yet.

    Raises:
        CheckpointError: if the checkpoint does not say what its settings were, and its config differs in more than
            numbers, text and booleans below `cl_strategy`.
    """
    settings = checkpoint.get('settings')
    if settings is None:
        settings = _settings_of_values(runner, path, checkpoint['config'], index)
    return {part: with_settings(value, settings[part], fresh[part]) if part in SETTINGS else value
            for part, value in checkpoint['strategy'].items()}


def _settings_of_values(runner: Any, path: Path, saved: dict[str, Any], index: Any) -> dict[str, Any]:
    """The settings of a strategy of this run's config, but with the values of the saved one."""
    from clear.continual.strategies import build_strategy, quiet_avalanche

    cfg = _with_values_of(path, runner.cfg, saved)
    seed_everything(derive_seed('settings'))
    model = build_classifier(cfg['model']).to(runner.device)
    try:
        with quiet_avalanche():
            strategy = build_strategy(cfg['cl_strategy'], model, device=runner.device)
    except ClearError as error:
        raise CheckpointError(f'{path} was written with settings that cannot be had now: {error}') from error
    return settings_of(strategy_state(strategy, index))


def _with_values_of(path: Path, cfg: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """This run's config with the numbers, text and booleans of another one below `cl_strategy`."""
    free = {key: cfg['cl_strategy'][key] for key in _FREE if key in cfg['cl_strategy']}
    mine = {key: value for key, value in cfg['cl_strategy'].items() if key not in _FREE}
    theirs = {key: value for key, value in saved['cl_strategy'].items() if key not in _FREE}
    if saved['model'] != cfg['model']:
        raise _other(path, 'model')
    merged = _merged(path, 'cl_strategy', mine, theirs)
    return {**cfg, 'cl_strategy': {**merged, **free}}


def _merged(path: Path, where: str, mine: Any, theirs: Any) -> Any:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        if mine.get('type') != theirs.get('type'):
            raise _other(path, f'{where}.type')
        both = {key: _merged(path, f'{where}.{key}', mine.get(key, _MISSING), theirs.get(key, _MISSING))
                for key in {**mine, **theirs}}
        return {key: value for key, value in both.items() if value is not _MISSING}
    if isinstance(mine, (list, tuple)) and isinstance(theirs, (list, tuple)) and len(mine) == len(theirs):
        return [_merged(path, f'{where}[{position}]', *pair) for position, pair in enumerate(zip(mine, theirs))]
    if not (_is_value(mine) and _is_value(theirs)):
        raise _other(path, where)
    return theirs


def _is_value(value: Any) -> bool:
    """A number, a boolean, nothing, or text that names nothing to import."""
    if isinstance(value, str):
        return not set(value) & set('./:')
    if isinstance(value, (list, tuple)):
        return all(map(_is_value, value))
    return value is None or value is _MISSING or isinstance(value, (bool, int, float))


def _other(path: Path, where: str) -> CheckpointError:
    return CheckpointError(f'{path} was written by an earlier version, which did not note the settings of its '
                           f'strategy, and its {where} is another than that of this config. Between such a run and a '
                           'branch only numbers, text and booleans below cl_strategy may differ.')
