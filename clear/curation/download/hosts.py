"""What a client remembers of a host: how many requests are under way, when the next may go, how often it failed."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

from clear.curation.download.limits import Limits
from clear.curation.download.outcomes import HOST_FAILURES, Failed

_MOST_HOSTS = 10_000
_MOST_AWAY_S = 3600.0


class Pace:
    """Lets through at most `rate` units a second, in the order of asking; a burst is never longer than one wait."""

    def __init__(self, rate: float | None):
        self._interval = 1 / rate if rate else 0.0
        self._next = 0.0

    def wait_s(self, units: float = 1, least_s: float = 0.0) -> float:
        """Seconds until these units may go; they are counted as gone then, for at least `least_s`."""
        now = time.monotonic()
        at = max(self._next, now)
        self._next = at + max(units * self._interval, least_s)
        return at - now

    def not_before(self, seconds: float) -> None:
        """Let nothing through for a while."""
        self._next = max(self._next, time.monotonic() + seconds)


class Host:
    """A host: its slots, its pace and its circuit breaker."""

    def __init__(self, limits: Limits):
        self.slots = asyncio.Semaphore(limits.host_connections)
        self.bytes = Pace(limits.host_bytes_per_s)
        self.users = 0
        self._limits = limits
        self._requests = Pace(limits.host_rate)
        self._failures, self._reason = 0, ''
        self._closed_until = 0.0  # by its failures; 0 = closed by none
        self._away_until = 0.0  # as it has asked
        self._is_probing = False

    @property
    def is_fresh(self) -> bool:
        """Whether nothing would be lost by forgetting it."""
        return not (self.users or self._failures or self._requests.wait_s(0)) and time.monotonic() >= self._away_until

    def turn_s(self, interval_s: float = 0.0) -> float:
        """Seconds to wait before the next request, at least `interval_s` after the one before."""
        return self._requests.wait_s(1, interval_s)

    def check(self) -> None:
        """Before waiting for a turn.

        Raises:
            Failed: host_down, while the host is left alone.
        """
        if not self._closed_until and not self._away_until:
            return
        now = time.monotonic()
        if now < self._away_until:
            raise Failed('host_down', 'throttled', again=False)
        if self._closed_until and (self._is_probing or now < self._closed_until):
            raise Failed('host_down', self._reason, again=False)

    def begin(self) -> None:
        """Before a request, which `note` or `give_up` ends; after failures, one at a time finds out.

        Raises:
            Failed: as `check`.
        """
        self.check()
        self._is_probing = bool(self._closed_until)

    def note(self, outcome: str) -> None:
        """After a request, whatever came of it."""
        self._is_probing = False
        if outcome not in HOST_FAILURES:
            self._failures, self._closed_until = 0, 0.0
            return
        self._failures, self._reason = self._failures + 1, outcome
        if self._limits.breaker and self._failures >= self._limits.breaker:
            self._closed_until = time.monotonic() + self._limits.breaker_s

    def give_up(self) -> None:
        """The request was cancelled: if it was to find out, the next one does."""
        self._is_probing = False

    def pause(self, seconds: float) -> None:
        """As the host asks: the next requests wait, or are given up if it is for longer than a record waits."""
        if seconds <= self._limits.max_wait_s:
            self._requests.not_before(seconds)
        else:
            self._away_until = time.monotonic() + min(seconds, _MOST_AWAY_S)


class Hosts:
    """Name -> host; those that are idle and in good standing are forgotten, so that the table stays small."""

    def __init__(self, limits: Limits, most: int = _MOST_HOSTS):
        self._limits, self._most = limits, most
        self._hosts: OrderedDict[str, Host] = OrderedDict()

    def __len__(self) -> int:
        return len(self._hosts)

    def __getitem__(self, name: str) -> Host:
        host = self._hosts.get(name)
        if host is None:
            if len(self._hosts) >= self._most:
                self._forget()
            host = self._hosts[name] = Host(self._limits)
        return host

    def _forget(self) -> None:
        """Half of the table, fresh ones first; a broken one that nobody asks for is given another chance."""
        idle = [name for name, host in self._hosts.items() if not host.users]
        idle.sort(key=lambda name: not self._hosts[name].is_fresh)
        for name in idle[:self._most // 2]:
            del self._hosts[name]
