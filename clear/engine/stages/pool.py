"""Workers on this machine: each does whole jobs, and publishes its shards itself."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from clear.core.errors import ClearError

_LOOK_S = 1.0


def in_pool(work: Callable[..., int], tasks: Sequence[tuple], workers: int) -> Iterator[int]:
    """Call `work` on every task, in this process without workers; yields what it returns as each ends.

    Args:
        work: a function of a module, with arguments that can be sent to another process.
        workers: processes; 0 = none but this one.

    Raises:
        ClearError: the first that a task raises, or if a worker was killed; the others end, and what they have
            published stays.
    """
    if not workers:
        for task in tasks:
            yield work(*task)
        return
    pool = ProcessPoolExecutor(min(workers, len(tasks)), multiprocessing.get_context('spawn'), _begin, (os.getpid(),))
    try:
        waiting = {pool.submit(work, *task) for task in tasks}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise ClearError('A worker was killed, most often because memory ran out. What it had finished is kept: go on '
                         'with --resume, with fewer workers.') from error
    finally:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(parent: int) -> None:
    """In a worker: leave signals to the parent, end with it, and use one core."""
    import pyarrow

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)  # nobody is left to report to, and an attempt that is half done is nobody's
