"""A line now and then from a program that has said nothing for a while: where it is, so that nobody takes it for dead.

Bars and log lines are the rule. This is for what has none: reading a large list, hashing, a fit inside a library.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

# Seconds of silence after which a line is written; 0 in the environment variable switches it off.
SILENCE_S = 9.0
VARIABLE = 'CLEAR_SILENCE_S'
_PACKAGE = Path(__file__).resolve().parents[2]


# Held while a line is written: a child that is forked meanwhile would inherit tqdm's lock, and nobody to release it.
_writing = threading.Lock()
os.register_at_fork(before=_writing.acquire, after_in_parent=_writing.release, after_in_child=_writing.release)


class _Clock:
    last_s = 0.0  # when something was said last
    depth = 0


def said() -> None:
    """Whoever writes to the console calls this."""
    _Clock.last_s = time.monotonic()


@contextmanager
def heartbeat() -> Iterator[None]:
    """Inside the block, write a line to stderr after every 9 s in which nothing was said. Processes of a group other
    than the first stay silent; so do blocks inside another.
    """
    silence = _silence_s()
    if silence <= 0 or _Clock.depth or os.environ.get('RANK', '0') != '0':
        yield
        return
    _Clock.depth += 1
    said()
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(over, silence, threading.get_ident()), name='clear-heartbeat',
                              daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(1.0)
        _Clock.depth -= 1


def _silence_s() -> float:
    try:
        return float(os.environ.get(VARIABLE, SILENCE_S))
    except ValueError:
        return SILENCE_S


def _watch(over: threading.Event, silence: float, thread: int) -> None:
    started = time.monotonic()
    while not over.wait(min(1.0, silence / 4)):
        now = time.monotonic()
        if now - _Clock.last_s < silence:
            continue
        place = _place(sys._current_frames().get(thread))
        try:
            with _writing:
                if not _write(f'... still at work after {now - started:.0f} s{place}\n', silence):
                    continue
        except (OSError, ValueError, AttributeError):
            return  # nobody listens any more
        said()


def _write(line: str, silence: float) -> bool:
    """Write a line to stderr, above the bars that are there; not if one was drawn in the time of silence, then False.

    The bars are tqdm's, also those of libraries. Rich's take stderr for themselves while they are there.
    """
    tqdm = getattr(sys.modules.get('tqdm'), 'tqdm', None)
    if tqdm is None:
        sys.stderr.write(line)
    else:
        with tqdm.get_lock():
            # One that is just being made has neither yet.
            drawn = [getattr(bar, 'last_print_t', 0.0) for bar in tqdm._instances
                     if getattr(bar, 'fp', None) in (sys.stdout, sys.stderr)]
            if time.time() - max(drawn, default=0.0) < silence:
                return False
            tqdm.write(line, file=sys.stderr, end='', nolock=True)
    sys.stderr.flush()
    return True


def _place(frame: FrameType | None) -> str:
    """The innermost function of ours on a stack, and the library that it has called."""
    library = ''
    while frame is not None:
        module = str(frame.f_globals.get('__name__', ''))
        path = Path(frame.f_code.co_filename)
        if _PACKAGE in path.parents and not module.startswith('clear.core.programs'):
            inside = f', inside {library}' if library else ''
            return f': {path.relative_to(_PACKAGE.parent).as_posix()}, {frame.f_code.co_name}{inside}'
        name = module.partition('.')[0]
        if name not in ('', '__main__', 'importlib', 'threading', 'contextlib'):
            library = name
        frame = frame.f_back
    return ''
