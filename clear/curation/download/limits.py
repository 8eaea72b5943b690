"""How much a download may ask of hosts, network and memory: the `limits` of a config."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import clear
from clear.core.checks import check_flag, check_number, check_whole
from clear.core.errors import ConfigError

PRODUCT = 'clear-framework'
# Where large hosts send who asks for a photo that was removed, as patterns of the whole address (`*` is anything).
PLACEHOLDERS = ('*/photo_unavailable*',)
_ORIGIN = re.compile(r'(\[[0-9a-f:.]+\]|[a-z0-9._-]+):([0-9]{1,5})')
# A header of one line, in brackets: no control character, none of the signs that end a comment or begin another.
_CONTACT = re.compile(r'[!-~]+( [!-~]+)*')


@dataclass(frozen=True)
class Limits:
    """Plain values; times in seconds. None is no limit.

    Args:
        connections: at once; with `max_bytes` the bound of memory: `connections x max_bytes`.
        host_connections: at once to one host.
        host_rate: requests a second to one host.
        host_bytes_per_s, bytes_per_s: of bodies, from one host and in all.
        connect_s: to look up a name, and then to connect.
        read_s: without a byte.
        total_s: of all requests for one record together. Time in a queue, and between two attempts, counts nowhere.
        max_bytes: of a body.
        max_redirects: followed for one record.
        retries: further attempts after a temporary failure.
        backoff_s: before the first of these; doubled for each, times 0.5 to 1.5 at random, never above `max_wait_s`.
        max_wait_s: the longest wait that a host's Retry-After or Crawl-delay gets; above it, the record is given up
            for now.
        contact: an address or e-mail that hosts can complain to, part of the User-Agent.
        robots: ask each host's robots.txt first.
        opt_out: leave out what X-Robots-Tag withdraws.
        allow: origins 'host:port' that may have addresses which are not public.
        breaker: failures of a host in a row until it is left alone; 0 = never.
        breaker_s: for how long.
        placeholders: patterns of addresses that stand in for removed photos.

    Raises:
        ConfigError: for values that cannot be.
    """

    connections: int = 64
    host_connections: int = 8
    host_rate: float | None = 20.0
    host_bytes_per_s: float | None = None
    bytes_per_s: float | None = None
    connect_s: float = 10.0
    read_s: float = 20.0
    total_s: float = 120.0
    max_bytes: int = 32 * 2**20
    max_redirects: int = 5
    retries: int = 3
    backoff_s: float = 1.0
    max_wait_s: float = 60.0
    contact: str = ''
    robots: bool = True
    opt_out: bool = True
    allow: Sequence[str] = field(default_factory=tuple)
    breaker: int = 10
    breaker_s: float = 60.0
    placeholders: Sequence[str] = PLACEHOLDERS

    def __post_init__(self):
        for name in ('connections', 'host_connections', 'max_bytes'):
            check_whole(f'limits.{name}', getattr(self, name), 1)
        for name in ('max_redirects', 'retries', 'breaker'):
            check_whole(f'limits.{name}', getattr(self, name), 0)
        for name in ('host_rate', 'host_bytes_per_s', 'bytes_per_s'):
            if getattr(self, name) is not None:
                check_number(f'limits.{name}', getattr(self, name), above=0)
        for name in ('connect_s', 'read_s', 'total_s', 'breaker_s'):
            check_number(f'limits.{name}', getattr(self, name), above=0)
        for name in ('backoff_s', 'max_wait_s'):
            check_number(f'limits.{name}', getattr(self, name), 0)
        for name in ('robots', 'opt_out'):
            check_flag(f'limits.{name}', getattr(self, name))
        if not isinstance(self.contact, str) or self.contact and not _CONTACT.fullmatch(self.contact):
            raise ConfigError(f'limits.contact is {self.contact!r}; expected an address or an e-mail on one line.')
        for name in ('allow', 'placeholders'):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(item, str) and item for item in value):
                raise ConfigError(f'limits.{name} is {value!r}; expected a list of texts.')
        for origin in self.allow:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(f"limits.allow has {origin!r}; expected 'host:port' in small letters, as in "
                                  "'127.0.0.1:8000'.")

    @property
    def user_agent(self) -> str:
        """What hosts see: the project, its version and the contact."""
        return f'{PRODUCT}/{clear.__version__}' + (f' (+{self.contact})' if self.contact else '')

    def share(self, workers: int) -> Limits:
        """What one of `workers` processes may have, so that together they keep the limits.

        Raises:
            ConfigError: if there is not a connection for each.
        """
        for name in ('connections', 'host_connections'):
            if getattr(self, name) < workers:
                raise ConfigError(f'limits.{name} is {getattr(self, name)}, which {workers} workers cannot share. Use '
                                  f'fewer workers, or allow at least {workers}.')
        rates = {name: getattr(self, name) / workers for name in ('host_rate', 'host_bytes_per_s', 'bytes_per_s')
                 if getattr(self, name) is not None}
        return replace(self, connections=self.connections // workers, breaker=-(-self.breaker // workers),
                       host_connections=self.host_connections // workers, **rates)
