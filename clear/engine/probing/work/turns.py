"""The order in which jobs are done: each after those that it reads, and later if another process has it now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from clear.core.logs import logger
from clear.engine.probing.jobs import in_order

if TYPE_CHECKING:
    from clear.engine.probing.jobs import Job
    from clear.engine.probing.work.hands import Hands

AGAIN_S = 1.0


def take_turns(hands: Hands, jobs: Sequence[Job], keep: bool, on_start: Callable[[Job, str], None],
               on_look: Callable[[], None]) -> Iterator[Job]:
    """Have jobs done; yields each as it is done or has failed.

    Args:
        keep: see `Executor.do`.
        on_start: called with a job that begins, and where.
        on_look: called about once a second where others do the jobs, and after each job.
    """
    waiting, under_way = in_order(jobs), {}
    later: dict[str, float] = {}  # when a job may be tried again
    while waiting or under_way:
        for job in _ready(waiting, {*under_way}, later)[:hands.places - len(under_way)]:
            waiting.remove(job)
            job.state, job.attempts, job.error = 'running', job.attempts + 1, None
            under_way[job.key] = job
            on_start(job, hands.start(job, keep or job.key in later))
        if not under_way:  # all that is left is in the hands of others
            time.sleep(AGAIN_S)
        for job, busy in hands.ended() if under_way else ():
            del under_way[job.key]
            if busy:
                if job.key not in later:
                    logger.info('%s waits: %s', job.key, busy)
                job.state, job.attempts = 'pending', job.attempts - 1
                later[job.key] = time.monotonic() + AGAIN_S
                waiting.append(job)
            else:
                yield job
        on_look()


def _ready(waiting: Sequence[Job], under_way: set[str], later: dict[str, float]) -> list[Job]:
    """The jobs that can begin now."""
    open_ones = under_way | {job.key for job in waiting}
    now = time.monotonic()
    return [job for job in waiting if later.get(job.key, now) <= now
            and not any(read is not None and read.key in open_ones for read in job.read.values())]
