"""What is under way in a probing run: a table that is drawn again on a terminal, lines now and then in a log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from clear.core.logs import logger

if TYPE_CHECKING:
    from clear.engine.probing.jobs import Job

SILENT_S = 10.0


class Board:
    """Says where each job under way is done, for how long, and when all will be.

    Args:
        total: jobs of this run.
        is_apart: other processes do them; then a terminal belongs to the table.
    """

    def __init__(self, total: int, is_apart: bool):
        self.total, self.done = total, 0
        self._begun: dict[str, tuple[str, float]] = {}  # key -> device, when
        self._started = self._said = time.monotonic()
        self._is_apart = is_apart
        self._is_drawn = is_apart and sys.stderr.isatty()
        self._lines = 0  # on the screen
        self._ended = threading.Event()

    def begin(self, job: Job, device: str) -> None:
        """A job has begun."""
        self._begun[job.key] = device, time.monotonic()

    def end(self, job: Job) -> None:
        """A job has ended."""
        device, _ = self._begun.pop(job.key)
        self.done += 1
        self._said = time.monotonic()
        logger.info('job %d/%d  %s  %s  %s  ETA %s', self.done, self.total, device, job.key, _outcome(job), self._eta())

    def look(self) -> None:
        """Show what is under way: now on a terminal, else after ten seconds of silence."""
        now = time.monotonic()
        lines = [f'{device}  {key}  running for {timedelta(seconds=round(now - since))}'
                 for key, (device, since) in [*self._begun.items()]]
        if self._is_drawn:
            self.clear()
            lines.append(f'{self.done} of {self.total} jobs  ETA {self._eta()}')
            sys.stderr.write(''.join(f'{line}\n' for line in lines))
            sys.stderr.flush()
            self._lines = len(lines)
        elif now - self._said >= SILENT_S and lines:
            self._said = now
            logger.info('%s  ETA %s', '; '.join(lines), self._eta())

    def clear(self) -> None:
        """Take the table off the screen, so that lines can be printed."""
        if self._lines:
            sys.stderr.write(f'\x1b[{self._lines}A\x1b[J')
            sys.stderr.flush()
            self._lines = 0

    def _eta(self) -> str:
        if not self.done:
            return 'unknown'
        left_s = (time.monotonic() - self._started) / self.done * (self.total - self.done)
        return str(timedelta(seconds=round(left_s)))

    @contextmanager
    def shown(self) -> Iterator[Board]:
        """Make room for lines of the log inside the block, and look on even while this process does a job."""
        room = _MakesRoom(self)
        logger.handlers.insert(0, room)
        watch = threading.Thread(target=self._watch, daemon=True)
        if not self._is_apart:
            watch.start()
        try:
            yield self
        finally:
            self._ended.set()
            if not self._is_apart:
                watch.join()
            self.clear()
            logger.removeHandler(room)

    def _watch(self) -> None:
        while not self._ended.wait(1.0):
            self.look()


class _MakesRoom(logging.Handler):
    def __init__(self, board: Board):
        super().__init__()
        self._board = board

    def emit(self, record: logging.LogRecord) -> None:
        self._board.clear()


def _outcome(job: Job) -> str:
    if job.state == 'failed':
        return f'failed: {job.error}'
    return f'{job.result["metric"]} {job.result["value"]:.3f}  {job.time_s:.1f} s'
