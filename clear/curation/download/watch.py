"""The time that a request may take, and the time that it may go without a byte, looked at from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType

from clear.curation.download.outcomes import Failed

_LOOKS = 8  # within the shortest limit
_LONGEST_S = 0.5  # between two looks


class Watches:
    """Looks at all requests under way a few times a second, and cancels those that take too long.

    Timers of their own, set anew with every piece of a body, cost a request a tenth of its time.

    Args:
        idle_s: without a byte, once there is a connection; look-up and connecting have limits of their own.
        total_s: the longest of all.
    """

    def __init__(self, idle_s: float, total_s: float):
        self.idle_s, self.active = idle_s, set[Watch]()
        self._every_s = min(idle_s / _LOOKS, total_s / _LOOKS, _LONGEST_S)
        self._timer: asyncio.TimerHandle | None = None

    def start(self, also: Callable[[], object]) -> None:
        """Look from now on, and call `also` at each look."""
        self._also = also
        self._arm()

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + self._every_s
        self._timer = loop.call_at(self._due, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        # If we come late, this process was stopped or busy: what has arrived meanwhile has not been read yet.
        late_s = now - self._due if now - self._due > self._every_s else 0.0
        for watch in list(self.active):
            watch.look(now, late_s)
        self._also()
        self._arm()


class Watch:
    """`async with` around one request: `Failed('timeout')` if it takes too long.

    Args:
        left_s: until its end.

    Attributes:
        is_new: whether a connection was made for it.
    """

    is_new = False

    def __init__(self, watches: Watches, left_s: float):
        self._watches, self._loop = watches, asyncio.get_running_loop()
        self._start = self._loop.time()
        self._end = self._start + left_s
        self._idle_until: float | None = None
        self._expired = ''

    def touch(self) -> None:
        """There is a connection, or there are bytes."""
        self._idle_until = self._loop.time() + self._watches.idle_s

    async def pause(self, seconds: float) -> None:
        """Wait for our own reasons, which counts nowhere."""
        if seconds > 0:
            self._end, self._start = self._end + seconds, self._start + seconds
            self._idle_until = self._loop.time() + seconds + self._watches.idle_s
            await asyncio.sleep(seconds)

    def spent_s(self) -> float:
        """Seconds since the beginning, without pauses."""
        return self._loop.time() - self._start

    def look(self, now: float, late_s: float) -> None:
        """Cancel the request if its time is over; `late_s` were nobody's fault."""
        self._end, self._start = self._end + late_s, self._start + late_s
        if self._idle_until is not None:
            self._idle_until += late_s
        if self._expired:
            return
        if now >= self._end:
            self._expired = 'total'
        elif self._idle_until is not None and now >= self._idle_until:
            self._expired = 'read'
        if self._expired:
            self._task.cancel()

    async def __aenter__(self) -> Watch:
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling()
        self._token = WATCH.set(self)
        self._watches.active.add(self)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        self._watches.active.discard(self)
        WATCH.reset(self._token)
        if not self._expired:
            return
        # As asyncio's own time-outs do it: what others cancel stays cancelled.
        if self._task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError):
            raise Failed('timeout', self._expired) from error


WATCH: ContextVar[Watch] = ContextVar('watch')
