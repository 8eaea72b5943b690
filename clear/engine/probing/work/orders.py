"""A job as another process gets it, and does it."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clear.core.types import Plain
    from clear.engine.probing.jobs import Job
    from clear.engine.probing.work.execution import Executor

# In the place of an outcome: why a job must wait for another process; how the worker came to its end.
BUSY, LOST = 'busy', 'lost'


@dataclass(frozen=True)
class Order:
    """What a worker gets: plain values, that can be sent to any process.

    Attributes:
        cfg: the checked config of the run, as JSON.
        device: None lets the worker look for a GPU of its own.
        threads: of the worker.
        imports: modules of the user's that register tasks and encoders.
        key, attempts: of the job.
        keep: see `Executor.do`.
        read: key -> record, of the jobs that it reads.
    """

    cfg: str
    work_dir: str
    device: str | None
    threads: int
    imports: Sequence[str]
    key: str = ''
    attempts: int = 0
    keep: bool = False
    read: Mapping[str, Mapping[str, Plain]] = field(default_factory=dict)


def do_order(order: Order) -> dict[str, Any]:
    """Do a job and publish how it ended; the outcome, or under `BUSY` why it must wait for another process."""
    from clear.core.errors import BusyError
    from clear.engine.probing.work.records import OUTCOME, take_over

    executor, jobs = _begun(order.cfg, order.work_dir, order.device, order.threads, tuple(order.imports))
    for key, record in order.read.items():
        take_over(jobs[key], record)
    job = jobs[order.key]
    job.state, job.attempts, job.error = 'running', order.attempts, None
    try:
        executor.do(job, order.keep)
    except BusyError as error:
        return {BUSY: str(error)}
    return {name: getattr(job, name) for name in OUTCOME}


@functools.lru_cache(maxsize=1)
def _begun(cfg: str, work_dir: str, device: str | None, threads: int, imports: tuple[str, ...]
           ) -> tuple[Executor, dict[str, Job]]:
    """Who does the jobs of a run in this process, and these by their keys: encoders and banks stay for the next."""
    from clear.core.programs.startup import choose_device, set_threads
    from clear.engine.probing.jobs import plan_jobs
    from clear.engine.probing.work.execution import Executor

    for name in imports:
        importlib.import_module(name)
    set_threads(threads)
    whole = json.loads(cfg)
    return Executor(whole, Path(work_dir), choose_device(device)), {job.key: job for job in plan_jobs(whole)}
