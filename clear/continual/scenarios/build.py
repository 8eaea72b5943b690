"""From `scenario` in a config to a benchmark: ours by the registry, Avalanche's classics by our adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clear.continual.scenarios.avalanche_classic import CLASSICS, REFUSED, classic_arguments, classic_benchmark
from clear.continual.scenarios.base import make_benchmark
from clear.core.checks import check_whole
from clear.core.configs.signatures import accepted_arguments
from clear.core.errors import ConfigError
from clear.registry import SCENARIOS

if TYPE_CHECKING:
    from clear.core.types import Options

# Keys of every scenario.
OWN_KEYS = {'task_labels'}


def scenario_arguments(name: str) -> set[str] | None:
    """The keys that `scenario=dict(type=name, ...)` takes; None where any may be.

    Raises:
        RegistryError: if there is no such scenario, with the nearest names.
        ConfigError: if it is one of Avalanche's that cannot be trained on here, with the reason.
    """
    if _is_classic(name):
        return classic_arguments(name) | OWN_KEYS
    accepted = accepted_arguments(SCENARIOS.require(name))
    return None if accepted is None else (accepted - {'work_dir'}) | OWN_KEYS


def build_scenario(cfg: Options, work_dir: str | Path | None = None):
    """The Avalanche benchmark of a scenario; `benchmark.info` is its `ScenarioInfo`. `cfg` is not changed.

    `task_labels`, a key of every scenario, says which task each experience is of, for models with a head for each:
    True for tasks 0, 1, 2 ..., or a list of them.

    Args:
        work_dir: where `bad_samples.jsonl` is written; None counts without a file.

    Raises:
        ConfigError, DataError, RegistryError: as the scenario does.
    """
    place = None if work_dir is None else str(work_dir)
    options = {key: value for key, value in cfg.items() if key not in OWN_KEYS}
    if _is_classic(cfg.get('type')):
        kind = options.pop('type')
        benchmark = classic_benchmark(kind, **options, work_dir=place)
    else:
        benchmark = SCENARIOS.build(options, default_args=dict(work_dir=place))
    tasks = cfg.get('task_labels')
    if tasks is None or tasks is False:
        return benchmark
    info = benchmark.info
    info.task_labels = _checked_tasks(tasks, len(info.train), len(info.test))
    return make_benchmark(info, info.task_labels, info.task_labels)


def _checked_tasks(tasks: object, num_train: int, num_test: int) -> list[int]:
    if num_train != num_test:
        raise ConfigError('scenario.task_labels: the stream has one test set for all experiences, which is of no task.')
    if tasks is True:
        return list(range(num_train))
    if not isinstance(tasks, (list, tuple)) or len(tasks) != num_train:
        raise ConfigError(f'scenario.task_labels is {tasks!r}; expected True or a list of {num_train} whole numbers, '
                          'one for each experience.')
    for place, task in enumerate(tasks):
        check_whole(f'scenario.task_labels[{place}]', task, 0)
    return list(tasks)


def _is_classic(name: object) -> bool:
    return (name in CLASSICS or name in REFUSED) and SCENARIOS.get_own(name) is None
