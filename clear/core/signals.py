"""SIGTERM, with which schedulers and people end a run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_sigterm(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` in place of dying, inside the block. Outside the main thread whoever runs us handles signals."""
    try:
        before = signal.signal(signal.SIGTERM, lambda signum, frame: stop())
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
