"""Tasks that stand in other configs: an entry of `tasks` may name a config, whose tasks take its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clear.core.checks import check_text
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError
from clear.engine.probing.tasks import build_task, task_options
from clear.evaluation.task import needs_of, reads_text_alone

SUITE = 'suite'
# What an entry may say for all tasks of its suite.
SHARED = ('data', 'features', 'level', 'kind')


def expanded(tasks: Sequence[Any], within: tuple[str, ...] = ()) -> list[Any]:
    """The entries, with `dict(suite='evaluation/language.py', ...)` replaced by the tasks of that config.

    A task without `data` takes that of the entry, else that of its config; `features`, `level` and `kind` of the
    entry go before its own. A `grid` of the other config is not read: its tasks should say what they take.

    Args:
        within: the configs that are being read, the outermost first.

    Raises:
        ConfigError: for a config that is not there, has no tasks or names itself.
    """
    found = []
    for entry in tasks:
        found += _tasks_of(entry, within) if isinstance(entry, Mapping) and SUITE in entry else [entry]
    return found


def _tasks_of(entry: Mapping[str, Any], within: tuple[str, ...]) -> list[Any]:
    from clear.core.config import load_config

    check_keys('tasks: suite', entry, {SUITE, *SHARED}, 'a suite')
    name = check_text('tasks: suite', entry[SUITE])
    if name in within:
        raise ConfigError(f'tasks: suite {name} names itself ({" -> ".join([*within, name])}).')
    cfg = load_config(name)[0].to_dict()
    if not isinstance(cfg.get('tasks'), list) or not cfg['tasks']:
        raise ConfigError(f'tasks: suite {name} has no tasks.')
    if cfg.get('grid'):
        raise ConfigError(f'tasks: suite {name} has a grid, which holds for all tasks of its config. Write its values '
                          'into the tasks.')
    data = entry['data'] if entry.get('data') is not None else cfg.get('data')
    shared = {key: entry[key] for key in SHARED if key in entry and key != 'data'}
    return [_with_data({**task, **shared}, data) if isinstance(task, Mapping) else task
            for task in expanded(cfg['tasks'], (*within, name))]


def _with_data(task: dict[str, Any], data: Any) -> dict[str, Any]:
    if data is None or task.get('data') is not None or reads_text_alone(needs_of(build_task(task_options(task, 0)))):
        return task
    return {**task, 'data': data}
