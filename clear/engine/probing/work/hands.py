"""Who does the jobs of a run: this process, others on this machine, or those of a Ray cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from clear.core.config import to_plain
from clear.core.errors import BusyError, ClearError
from clear.engine.probing.work.orders import BUSY, LOST, Order, do_order
from clear.engine.probing.work.processes import processes
from clear.engine.probing.work.records import record_of, take_over

if TYPE_CHECKING:
    import torch
    from ray import ObjectRef

    from clear.engine.probing.jobs import Job
    from clear.engine.probing.work.processes import Processes
    from clear.engine.stages.cluster import Cluster

# A job that has ended, and why it must wait if it has not been done: another process has it, or what it reads.
Ended = tuple['Job', str]


class Hands(Protocol):
    """Does jobs.

    Attributes:
        places: jobs at once.
        is_apart: whether others do them, so that this process can look on.
    """

    places: int
    is_apart: bool

    def start(self, job: Job, keep: bool) -> str:
        """Begin a job, and say where; see `Executor.do` for `keep`."""

    def ended(self) -> list[Ended]:
        """The jobs that have ended, after a second at the most where others do them; their outcome is in them."""


class OwnHands:
    """This process, which does a job when it is asked for those that have ended.

    Args:
        do: does a job; raises BusyError if it must wait.
    """

    places, is_apart = 1, False

    def __init__(self, do: Callable[[Job, bool], None], device: torch.device):
        self._do, self._device = do, str(device)
        self._begun: list[tuple[Job, bool]] = []

    def start(self, job: Job, keep: bool) -> str:
        self._begun.append((job, keep))
        return self._device

    def ended(self) -> list[Ended]:
        job, keep = self._begun.pop()
        try:
            self._do(job, keep)
        except BusyError as error:
            return [(job, str(error))]
        return [(job, '')]


class LocalHands:
    """Processes of this machine."""

    is_apart = True

    def __init__(self, made: Processes, lost: Callable[[Job, str], None]):
        self.places = made.places
        self._made, self._lost = made, lost
        self._begun: dict[str, Job] = {}

    def start(self, job: Job, keep: bool) -> str:
        self._begun[job.key] = job
        return self._made.start(job.key, job.attempts, keep, _records_of_read(job))

    def ended(self) -> list[Ended]:
        return [_ended(self._begun.pop(key), outcome, self._lost) for key, outcome in self._made.ended()]


class RayHands:
    """Processes of a Ray cluster."""

    is_apart = True

    def __init__(self, made: Cluster, order: Order, lost: Callable[[Job, str], None]):
        self.places = made.workers
        self._made, self._order, self._lost = made, order, lost
        self._begun: dict[ObjectRef, Job] = {}

    def start(self, job: Job, keep: bool) -> str:
        order = Order(**{**vars(self._order), 'key': job.key, 'attempts': job.attempts, 'keep': keep,
                         'read': _records_of_read(job)})
        self._begun[self._made.start(do_order, order)] = job
        return 'ray'

    def ended(self) -> list[Ended]:
        return [_ended(self._begun.pop(started), self._outcome(started), self._lost)
                for started in self._made.ended([*self._begun])]

    def _outcome(self, started: ObjectRef) -> dict[str, Any]:
        try:
            return self._made.result(started)
        except ClearError as error:
            return {LOST: str(error)}


@contextmanager
def hired(cfg: Mapping[str, Any], work_dir: Path, device: torch.device, lost: Callable[[Job, str], None]
          ) -> Iterator[Hands]:
    """Workers as the config wants them, until the block ends.

    Args:
        device: that of this process.
        lost: notes how a job failed whose worker was lost.

    Raises:
        ConfigError: if Ray is not there, or its cluster cannot be used.
    """
    workers = cfg['workers']
    order = Order(json.dumps(to_plain(cfg)), str(work_dir), None, _threads(cfg, device), _imports(cfg))
    with ExitStack() as running:
        if cfg['engine'] == 'ray':
            from clear.engine.stages.cluster import cluster

            made = running.enter_context(cluster(work_dir, workers, cfg['ray_address'], cfg['ray_gpus']))
            own = cfg['device'] if cfg['ray_gpus'] else 'cpu'
            yield RayHands(made, Order(**{**vars(order), 'device': own}), lost)
        else:
            yield LocalHands(running.enter_context(processes(order, _devices(cfg, device))), lost)


def _devices(cfg: Mapping[str, Any], device: torch.device) -> list[str]:
    """That of each worker: the GPUs in turn, unless the config names one."""
    import torch

    if device.type != 'cuda' or cfg['device'] not in (None, 'cuda'):
        return [str(device)] * cfg['workers']
    return [f'cuda:{place % torch.cuda.device_count()}' for place in range(cfg['workers'])]


def _threads(cfg: Mapping[str, Any], device: torch.device) -> int:
    """Of each worker: as the config says, else an even share of the processors."""
    shared = cfg['workers'] if cfg['engine'] != 'ray' or cfg['ray_address'] is None else 0
    return cfg['threads'] or (max(1, len(os.sched_getaffinity(0)) // shared) if shared else 1)


def _imports(cfg: Mapping[str, Any]) -> list[str]:
    given = cfg.get('custom_imports') or {}
    names = given.get('imports', []) if isinstance(given, Mapping) else []
    return [names] if isinstance(names, str) else list(names)


def _records_of_read(job: Job) -> dict[str, Any]:
    return {read.key: record_of(read) for read in job.read.values() if read is not None}


def _ended(job: Job, outcome: dict[str, Any], lost: Callable[[Job, str], None]) -> Ended:
    if BUSY in outcome:
        return job, outcome[BUSY]
    if LOST in outcome:
        lost(job, outcome[LOST])
    else:
        take_over(job, outcome)
    return job, ''
