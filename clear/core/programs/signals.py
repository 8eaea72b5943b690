"""SIGTERM and Ctrl-C, with which schedulers and people end a program."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# The terminal and the launcher both tell a process of several about one Ctrl-C.
_SAME_S = 1.0


class Stopped(KeyboardInterrupt):
    """Raised where a signal arrives and nothing is there that could stop in an orderly way."""


class _State:
    number: int | None = None  # of the first signal
    at_s = 0.0
    stop: Callable[[], None] | None = None
    orderly = False  # a `stop` has been called for it
    is_guest = False  # the process is somebody else's, who goes on after us
    depth = 0


def received() -> int | None:
    """The number of the first signal that has come in this program; None without one."""
    return _State.number


def interrupted() -> bool:
    """Whether a signal has come that only `Stopped` told of: a library that caught it goes on with broken parts."""
    return _State.number is not None and not _State.orderly


@contextmanager
def stoppable(is_guest: bool = False) -> Iterator[None]:
    """Take both signals inside the block: the first raises `Stopped`, or calls the innermost `on_stop`; a second
    Ctrl-C ends the process at once. Outside the main thread whoever runs us handles signals.

    Args:
        is_guest: the process is a notebook's or another program's; a second Ctrl-C raises `Stopped` too.
    """
    before = {}
    if _State.depth == 0:
        _State.is_guest = is_guest
        with suppress(ValueError):  # not the main thread
            before = {number: signal.signal(number, _handle) for number in SIGNALS}
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
        if _State.depth == 0:
            _State.number, _State.orderly, _State.is_guest = None, False, False
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def on_stop(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` in place of raising, inside the block; at once if a signal came before and a library caught it."""
    with stoppable():
        before, _State.stop = _State.stop, stop
        try:
            if _State.number is not None:
                _State.orderly = True
                stop()
            yield
        finally:
            _State.stop = before


def ignore_signals() -> None:
    """Be left alone from now on, while the end of the program is reported."""
    for number in SIGNALS:
        with suppress(ValueError):
            signal.signal(number, signal.SIG_IGN)


def finish_in_peace() -> None:
    """Let Python close down at once, and SIGTERM not touch the exit code meanwhile: the work is done.

    Without torch and its million objects in the garbage collector, which looks through all of them several times, the
    process ends a second earlier. Ctrl-C still ends a library that closes down too slowly.
    """
    for last in (gc.freeze, _ignore_sigterm):
        atexit.unregister(last)  # what is registered last is called first
        atexit.register(last)


def _ignore_sigterm() -> None:
    with suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _handle(number: int, frame: object) -> None:
    if _State.number is None:
        _State.number, _State.at_s = number, time.monotonic()
        if _State.stop is None:
            raise Stopped
        _State.orderly = True
        _State.stop()
    elif number == signal.SIGINT and _State.is_guest:
        raise Stopped
    elif number == signal.SIGINT and not ('RANK' in os.environ and time.monotonic() - _State.at_s < _SAME_S):
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _leave_to_parent() -> None:
    # The terminal sends Ctrl-C to a loader's workers too; the process that began them decides when they end.
    if _State.depth:
        _State.depth, _State.stop = 0, None
        with suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_leave_to_parent)
