"""The entries of `tasks` in a probing config: names, data, arguments, and the tasks that they build."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from clear.core.configs.building import building
from clear.core.configs.signatures import accepted_arguments
from clear.evaluation.image.rows import seed_list
from clear.evaluation.task import Task, one_seed_per_job, reads_text_alone
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


def job_seeds(task: Mapping[str, object], seed: int) -> list[int | None]:
    """A seed for each job of a task: those of its entry if each is a job of its own, else one that is None.

    Args:
        seed: of the run, from which a number of seeds counts on if the entry has none of its own.

    Raises:
        ConfigError: if they are neither a number nor a list of different whole numbers.
    """
    if not one_seed_per_job(TASKS.require(task['type'])) or task.get('seeds') is None:
        return [None]
    return [*seed_list(task['seeds'], task.get('seed', seed))]


def task_options(task: dict, seed: int, grid: dict[str, object] | None = None, job_seed: int | None = None
                 ) -> dict[str, object]:
    """Type and arguments of a task: its own, else those of `grid` if it reads them, else the run's `seed`.

    Args:
        job_seed: of the job, where each seed is a job of its own.
    """
    accepted = task_arguments(task['type'])
    own = {key: value for key, value in task.items() if key not in engine_keys(task['type'])}
    if job_seed is not None:
        own['seed'] = job_seed
    shared = {key: value for key, value in (grid or {}).items() if key in accepted} if reads_grid(task['type']) else {}
    if 'seed' in accepted:
        shared.setdefault('seed', seed)
    return {'type': task['type'], **shared, **own}


def engine_keys(kind: str) -> tuple[str, ...]:
    """The keys of an entry that are no arguments of its task."""
    return (*TASK_KEYS, 'seeds') if one_seed_per_job(TASKS.require(kind)) else TASK_KEYS


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
