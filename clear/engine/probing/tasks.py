"""The entries of `tasks` in a probing config: names, data, arguments, and the tasks that they build."""

from __future__ import annotations

import inspect

from clear.core.configs.building import building
from clear.core.configs.signatures import accepted_arguments
from clear.evaluation.task import Task, reads_text_alone
from clear.registry import TASKS

TASK_KEYS = ('type', 'name', 'data', 'level', 'kind', 'features')
# What a task reads of an encoder: what its heads give, or its towers alone.
FEATURES = ('embedding', 'backbone')


def task_name(task: dict) -> str:
    """The name of a task in tables: its `name`, else its type."""
    return task.get('name') or task['type']


def task_data(cfg: dict, task: dict, needs: tuple[str, ...]) -> object:
    """Split -> source of a task with these needs: its own `data`, else the config's; none for a task on text alone."""
    if reads_text_alone(needs):
        return {}
    return task.get('data') if task.get('data') is not None else cfg['data']


def task_options(task: dict, seed: int, grid: dict[str, object] | None = None) -> dict[str, object]:
    """Type and arguments of a task: its own, else those of `grid` if it reads them, else the run's `seed`."""
    accepted = task_arguments(task['type'])
    own = {key: value for key, value in task.items() if key not in TASK_KEYS}
    shared = {key: value for key, value in (grid or {}).items() if key in accepted} if reads_grid(task['type']) else {}
    if 'seed' in accepted:
        shared.setdefault('seed', seed)
    return {'type': task['type'], **shared, **own}


def task_arguments(kind: str) -> set[str]:
    """What the constructor of a task accepts."""
    return accepted_arguments(TASKS.require(kind)) or set(inspect.signature(TASKS.require(kind)).parameters)


def build_task(options: dict[str, object], device: str = 'cpu', num_workers: int = 0) -> Task:
    """The task; `device` and `num_workers` where its arguments leave them open.

    Raises:
        ConfigError: for a value that it refuses.
    """
    accepted = task_arguments(options['type'])
    filled = {key: value for key, value in dict(device=device, num_workers=num_workers).items() if key in accepted}
    with building(f'Task {options["type"]}'):
        return TASKS.build(options, default_args=filled)


def reads_grid(kind: str) -> bool:
    """Whether a task takes the arguments in `grid` that its entry leaves out."""
    return vars(TASKS.require(kind)).get('reads_grid', False)
