"""Workers of a probing run on this machine: processes, each of which does one job at a time."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from clear.core.logs import logger
from clear.core.programs.children import follow
from clear.engine.probing.work.orders import LOST, Order, do_order

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from clear.core.types import Plain

_LOOK_S, _END_S = 1.0, 5.0
# What libraries look at while they are imported.
_THREADS = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS')


@dataclass
class _Worker:
    """A place for a process; one that died is replaced when there is something to do."""

    device: str
    process: SpawnProcess | None = None
    line: Connection | None = None
    key: str | None = None  # of the job under way


class Processes:
    """See `processes`."""

    def __init__(self, order: Order, devices: Sequence[str]):
        self.places = len(devices)
        self._order = order
        self._workers = [_Worker(device) for device in devices]

    def start(self, key: str, attempts: int, keep: bool, read: Mapping[str, Mapping[str, Plain]]) -> str:
        """Have a job done by a worker that has nothing to do; its device."""
        worker = next(worker for worker in self._workers if worker.key is None)
        if worker.process is None or not worker.process.is_alive():
            self._begin(worker)
        worker.key = key
        with suppress(OSError):  # it died just now: `ended` tells
            worker.line.send(replace(self._order, device=worker.device, key=key, attempts=attempts, keep=keep,
                                     read=read))
        return worker.device

    def ended(self) -> list[tuple[str, dict[str, Any]]]:
        """Key and outcome of the jobs that have ended, after a second at the most."""
        at_work = [worker for worker in self._workers if worker.key is not None]
        signs = {sign: worker for worker in at_work for sign in (worker.line, worker.process.sentinel)}
        found = []
        for worker in {id(signs[sign]): signs[sign] for sign in connection.wait(signs, _LOOK_S)}.values():
            outcome = self._heard(worker)
            if outcome is not None:
                found.append((worker.key, outcome))
                worker.key = None
        return found

    def close(self) -> None:
        """End all workers, whatever they are at."""
        begun = [worker for worker in self._workers if worker.process is not None]
        for worker in begun:
            if worker.key is None:
                worker.line.close()  # it has nothing to do, and ends by itself
            else:
                worker.process.terminate()
        for worker in begun:
            worker.process.join(_END_S)
            worker.process.kill()  # a library may have taken the signal
            worker.process.join()

    def _begin(self, worker: _Worker) -> None:
        context = multiprocessing.get_context('spawn')
        worker.line, theirs = context.Pipe()
        # Not a daemon, which may have no children: loaders have.
        worker.process = context.Process(target=_serve, args=(theirs, os.getpid()))
        threads = dict.fromkeys(_THREADS, str(self._order.threads))
        with _environment({**threads, 'TQDM_DISABLE': '1'}):  # the parent shows how far all are
            worker.process.start()
        theirs.close()  # so that the end of the process is the end of the line

    def _heard(self, worker: _Worker) -> dict[str, Any] | None:
        """The outcome of a worker's job; None if it has only had something to say."""
        try:
            while worker.line.poll():
                message = worker.line.recv()
                if isinstance(message, dict):
                    return message
                logger.log(message[0], '%s: %s', worker.key, message[1])
        except (EOFError, OSError):
            pass
        else:
            if worker.process.is_alive():
                return None
        worker.process.join()
        code, worker.process = worker.process.exitcode, None
        return {LOST: _how_it_ended(code)}


@contextmanager
def processes(order: Order, devices: Sequence[str]) -> Iterator[Processes]:
    """A worker for each of these devices, started as it is needed, and ended with the block.

    Args:
        order: what all orders have in common.
    """
    made = Processes(order, devices)
    try:
        yield made
    finally:
        made.close()


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f'its process ended with exit code {code}'
    name = signal.Signals(-code).name if -code in {*signal.Signals} else f'signal {-code}'
    why = ', most often because memory ran out' if -code == signal.SIGKILL else ''
    return f'its process was killed by {name}{why}'


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables in the environment of processes that are started inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _serve(line: Connection, parent: int) -> None:
    """In a worker: do one job after the other."""
    follow(parent)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(_Speaks(line))
    while True:
        try:
            order = line.recv()
        except EOFError:
            return
        try:
            outcome = do_order(order)
        except Exception as error:  # what the job raises is noted in its outcome; this is of the config or of ours
            outcome = {LOST: f'{type(error).__name__}: {error}'}
        line.send(outcome)


class _Speaks(logging.Handler):
    """Says to the parent what is logged."""

    def __init__(self, line: Connection):
        super().__init__()
        self._line, self._lock = line, threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        with self._lock, suppress(OSError):
            self._line.send((record.levelno, record.getMessage()))
