"""Processes that a program starts to work for it."""

from __future__ import annotations

import os
import signal
import threading
import time

_LOOK_S = 1.0


def follow(parent: int) -> None:
    """In a worker: leave Ctrl-C to the parent, which decides when its workers end, and end when it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)  # nobody is left to report to, and an attempt that is half done is nobody's
