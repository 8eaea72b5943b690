"""A worker's part of a stage: some shards, in whatever process sees the folder."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.errors import DataError
from clear.curation.manifest import PLAN, Finished, Plan, StageFolder
from clear.curation.stage import Job
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Plain


@dataclass(frozen=True)
class Task:
    """What a worker gets: plain values, that can be sent to any process.

    Attributes:
        config: of the stage.
        folder: of the stage.
        reads: kind -> the folder of the finished stage that made it.
        shards: numbers of the shards to do, in order.
        workers: how many work at once.
        imports: modules of the user's that register stages.
    """

    config: Mapping[str, Plain]
    folder: str
    reads: Mapping[str, str]
    shards: Sequence[int]
    workers: int = 1
    imports: Sequence[str] = ()


def do_task(task: Task) -> int:
    """Do the shards of a task; how many."""
    return sum(1 for _ in shards_of(task))


def shards_of(task: Task) -> Iterator[int]:
    """Do the shards of a task, and yield the number of each as it is published.

    Raises:
        DataError: if the folder has no plan.
    """
    for name in task.imports:
        importlib.import_module(name)
    folder = StageFolder(Path(task.folder))
    stored = folder.read(PLAN)
    if stored is None:
        raise DataError(f'{task.folder} holds no {PLAN}. Do all workers see this folder?')
    inputs = {kind: Finished(source) for kind, source in task.reads.items()}
    yield from STAGES.build(dict(task.config)).work(
        Job(Plan(**stored['plan']), task.shards, inputs, folder, task.workers))
