"""Tasks that stand in other configs: an entry of `tasks` may name a config, whose tasks take its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clear.core.checks import check_text
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError
from clear.engine.probing.tasks import build_task, engine_keys, task_arguments, task_options
from clear.evaluation.task import needs_of, reads_text_alone

SUITE = 'suite'
# What an entry may say for all tasks of its suite.
SHARED = ('data', 'features', 'level', 'kind')
# What it may change in them: where their data lie, and arguments of those that have them.
CHANGES = ('data_root', 'options')
_ROOTS = ('root', 'data_root')
_DATA = 'data'


def expanded(tasks: Sequence[Any], within: tuple[str, ...] = ()) -> list[Any]:
    """The entries, with `dict(suite='evaluation/language.py', ...)` replaced by the tasks of that config.

    A task without `data` takes that of the entry, else that of its config; `features`, `level` and `kind` of the
    entry go before its own. A `grid` of the other config is not read: its tasks should say what they take.
    `data_root` stands in the place of the first folder, `data`, of every source in the suite (its `root` or
    `data_root`). `options` go before the arguments of every task that accepts them.

    Args:
        within: the configs that are being read, the outermost first.

    Raises:
        ConfigError: for a config that is not there, has no tasks or names itself, or an option that no task of it has.
    """
    found = []
    for entry in tasks:
        found += _tasks_of(entry, within) if isinstance(entry, Mapping) and SUITE in entry else [entry]
    return found


def _tasks_of(entry: Mapping[str, Any], within: tuple[str, ...]) -> list[Any]:
    from clear.core.config import load_config

    check_keys('tasks: suite', entry, {SUITE, *SHARED, *CHANGES}, 'a suite')
    name = check_text('tasks: suite', entry[SUITE])
    if name in within:
        raise ConfigError(f'tasks: suite {name} names itself ({" -> ".join([*within, name])}).')
    cfg = load_config(name)[0].to_dict()
    if not isinstance(cfg.get('tasks'), list) or not cfg['tasks']:
        raise ConfigError(f'tasks: suite {name} has no tasks.')
    if cfg.get('grid'):
        raise ConfigError(f'tasks: suite {name} has a grid, which holds for all tasks of its config. Write its values '
                          'into the tasks.')
    shared = {key: entry[key] for key in SHARED if key in entry and key != 'data'}
    tasks = [{**task, **shared} if isinstance(task, Mapping) else task
             for task in expanded(cfg['tasks'], (*within, name))]
    if entry.get('data') is None:
        tasks = [_with_data(task, cfg.get('data')) for task in tasks]
    if entry.get('data_root') is not None:
        place = check_text('tasks: data_root', entry['data_root'])
        tasks = [{**task, 'data': _moved(task['data'], place)} if isinstance(task, Mapping) and 'data' in task else task
                 for task in tasks]
    return _with_options([_with_data(task, entry.get('data')) for task in tasks], entry.get('options') or {}, name)


def _moved(source: Any, place: str) -> Any:
    """A source, or a dict of them, of whatever lies below the folder `data`, with that folder elsewhere."""
    if isinstance(source, (list, tuple)):
        return [_moved(each, place) for each in source]
    if not isinstance(source, Mapping):
        return source
    moved = {}
    for key, value in source.items():
        path = Path(value) if key in _ROOTS and isinstance(value, str) else None
        is_below = path is not None and path.parts[:1] == (_DATA,)
        moved[key] = str(Path(place, *path.parts[1:])) if is_below else _moved(value, place)
    return moved


def _with_options(tasks: Sequence[Any], options: Any, name: str) -> list[Any]:
    """The tasks, with the options that each accepts."""
    if not isinstance(options, Mapping):
        raise ConfigError(f'tasks: options is {options!r}; expected a dict of arguments of the tasks of {name}.')
    found, used = [], set()
    for task in tasks:
        taken = _taken(task['type'], options) if isinstance(task, Mapping) and 'type' in task else {}
        used |= {*taken}
        found.append({**task, **taken} if taken else task)
    unknown = [key for key in options if key not in used]
    if unknown:
        raise ConfigError(f"tasks: options has '{unknown[0]}', which no task of the suite {name} accepts.")
    return found


def _taken(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    accepted = {*task_arguments(kind), *({'seeds'} & {*engine_keys(kind)})}
    return {key: value for key, value in options.items() if key in accepted}


def _with_data(task: Any, data: Any) -> Any:
    if data is None or not isinstance(task, Mapping) or task.get('data') is not None:
        return task
    if reads_text_alone(needs_of(build_task(task_options(task, 0)))):
        return task
    return {**task, 'data': data}
