"""Workers on this machine: each does whole jobs, and publishes its shards itself."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from clear.core.errors import ClearError
from clear.core.programs.children import follow

T = TypeVar('T')
_LOOK_S = 1.0


@contextmanager
def pool(workers: int) -> Iterator[Pool]:
    """Workers on this machine, started as they are needed, and ended with the block."""
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), _begin, (os.getpid(),))
    try:
        yield Pool(executor, workers)
    finally:
        for process in list((executor._processes or {}).values()):
            process.terminate()
        executor.shutdown(wait=True, cancel_futures=True)


class Pool:
    """Workers that stay from stage to stage; see `pool`."""

    def __init__(self, executor: ProcessPoolExecutor, workers: int):
        self.workers = workers
        self._executor = executor

    def run(self, work: Callable[[T], int], tasks: Sequence[T], most: int) -> Iterator[int]:
        """Call `work` on every task; yields what it returns as each ends, and 0 now and then.

        Args:
            work: a function of a module, with an argument that can be sent to another process.
            most: tasks at once.

        Raises:
            ClearError: the first that a task raises, or if a worker was killed; what has been published stays.
        """
        waiting: set[Future[int]] = set()
        left = list(reversed(tasks))
        try:
            while waiting or left:
                while left and len(waiting) < most:
                    waiting.add(self._executor.submit(work, left.pop()))
                done, waiting = wait(waiting, _LOOK_S, FIRST_COMPLETED)
                yield sum(future.result() for future in done)
        except BrokenProcessPool as error:
            raise ClearError('A worker was killed, most often because memory ran out. What it had finished is kept: go '
                             'on with --resume, with fewer workers.') from error


def _begin(parent: int) -> None:
    """In a worker: leave signals to the parent, end with it, and use one core."""
    os.environ.setdefault('OMP_NUM_THREADS', '1')  # torch and BLAS look at it as they are imported
    import pyarrow

    follow(parent)
    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
