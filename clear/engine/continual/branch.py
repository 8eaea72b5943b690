"""What a branch takes over from another run, and what it takes from its own config.

A checkpoint holds what its strategy held before it saw anything (`settings`); where that equals what this run's
strategy holds now, the strategy goes on with what was learned, elsewhere with the setting of this run. The config that
a checkpoint holds is compared, never built: a file must not choose what is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clear.continual.state import StrategyState, settings_of, strategy_state, with_settings
from clear.continual.training.versions import check_versions
from clear.core.errors import CheckpointError, ClearError
from clear.core.logs import logger
from clear.core.seeding import derive_seed, seed_everything
from clear.core.storage.damage import reading
from clear.engine.checkpoint import ContinualCheckpoint, experience_checkpoints, load_checkpoint
from clear.engine.continual.restore import METRICS_LEFT, adapt_model, check_stream, restore
from clear.engine.continual.state import SETTINGS
from clear.engine.origin import note_processes
from clear.engine.schema import computed_config, differences
from clear.models import build_classifier

if TYPE_CHECKING:
    from clear.continual.samples import SampleIndex
    from clear.core.types import State
    from clear.engine.continual.runner import ContinualRunner

# Of `cl_strategy`: what a branch may change as it likes, because no strategy holds it among its settings.
_FREE = ('optimizer', 'scheduler', 'loss', 'optimizer_policy', 'scheduler_policy')
_MISSING = object()


def branch_run(runner: ContinualRunner, path: Path) -> int:
    """Begin where another run was left, with this run's options; the finished experiences.

    The rows of its matrix, its weights and what its strategy remembers are taken over, its optimiser's state if
    the optimiser is of the same type.

    Raises:
        CheckpointError: if the file is damaged, of another strategy or other data, or leaves nothing to train.
    """
    checkpoint = load_checkpoint(path)
    if 'inside' in checkpoint:
        raise CheckpointError(f'{path} was written inside an experience; branch from exp_*.pth or latest.pth.')
    check_stream(runner, path, checkpoint)
    check_versions(path, checkpoint['progress'].get('methods', {}), runner.strategy)
    config = computed_config(runner.cfg)
    changes = differences(checkpoint['config'], config)
    finished = checkpoint['progress']['experience']
    _check_unfinished(runner, path, finished)
    note_processes(checkpoint, METRICS_LEFT)
    index = runner.sample_index()
    fresh = strategy_state(runner.strategy, index)
    same_optimizer = _optimizer_type(checkpoint['config']) == _optimizer_type(config)
    own = runner.strategy.optimizer.state_dict()['param_groups']
    if checkpoint['config']['cl_strategy'] != config['cl_strategy']:
        checkpoint['strategy'] = _remembered(runner, path, checkpoint, fresh, index)
    with reading(path):
        adapt_model(runner, finished)
        restore(runner, path, checkpoint if same_optimizer else {**checkpoint, 'optimizer': None})
    if same_optimizer:  # the state is the other run's, the settings are ours
        for group, ours in zip(runner.strategy.optimizer.param_groups, own):
            group.update({key: value for key, value in ours.items() if key != 'params'})
    runner.strategy.schedule.forget()
    runner.record.take_rows(checkpoint)
    runner.record.branched_from = dict(checkpoint=path.name, config_hash=checkpoint['config_hash'],
                                       experiences=finished, changes=changes)
    logger.info('branched from %s after %d experiences; changed: %s', path, finished,
                '; '.join(changes) or 'nothing')
    return finished


def _check_unfinished(runner: ContinualRunner, path: Path, finished: int) -> None:
    total = runner.record.total
    if finished < total:
        return
    earlier = [other.name for other in experience_checkpoints(path.parent)
               if int(other.stem.removeprefix('exp_')) + 1 < total]
    if runner.is_joint:
        advice = 'Joint training is one experience and has no place to branch from.'
    elif earlier:
        advice = f'Branch from an earlier checkpoint, e.g. {earlier[-1]} beside it.'
    else:
        advice = 'Branch from an earlier checkpoint; checkpoint_config.interval=1 keeps exp_0.pth, exp_1.pth ...'
    raise CheckpointError(f'{path} was written after the last of {total} experience(s): nothing is left to train. '
                          f'{advice}')


def _remembered(runner: ContinualRunner, path: Path, checkpoint: ContinualCheckpoint, fresh: StrategyState,
                index: SampleIndex) -> StrategyState:
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


def _settings_of_values(runner: ContinualRunner, path: Path, saved: dict[str, Any], index: SampleIndex
                       ) -> State:
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


def _merged(path: Path, where: str, mine: object, theirs: object) -> object:
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


def _is_value(value: object) -> bool:
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


def _optimizer_type(config: dict[str, Any]) -> str | None:
    return (config['cl_strategy'].get('optimizer') or {}).get('type')
