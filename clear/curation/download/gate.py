"""Every connection goes through here: names are answered once, all answers are judged, and those are connected to."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

from clear.curation.download import addresses
from clear.curation.download.outcomes import Failed

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
Judge = Callable[[addresses.Address], 'str | None']
# These say that this machine is short of something, and nothing of a host.
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_THREADS = 16
_MOST_ANSWERS = 8  # to connect to, one after the other; all are judged


class Gate(AbstractResolver):
    """The resolver of a connector, and its maker of sockets.

    Args:
        allow: origins 'host:port' whose addresses are not judged.
        timeout_s: for one look-up.
        resolver: (name, port) -> addresses as text; the system's if None.
        judge: why an address may not be asked, or None.
    """

    def __init__(self, allow: Sequence[str], timeout_s: float, resolver: Resolver | None = None,
                 judge: Judge = addresses.forbidden):
        self._allow, self._timeout_s, self._judge = frozenset(allow), timeout_s, judge
        self._own = None if resolver else ThreadPoolExecutor(_THREADS, 'resolver')
        self._resolver = resolver or self._look_up
        # (address, port) of allowed origins: the one way past the judge for a socket.
        self._opened: set[tuple[str, int]] = set()

    def admit(self, host: str, port: int) -> None:
        """Judge a host that is written as an address; names wait for their answers.

        Raises:
            Failed: forbidden_address.
        """
        address = addresses.literal(host)
        if address is not None and (host, port) not in self._opened:
            self._admitted(host, port, [address])

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_UNSPEC) -> list[ResolveResult]:
        """The answers for a name, if all of them may be asked.

        Raises:
            Failed: forbidden_address, dns, or timeout.
            OSError: one of `SHORTAGES`.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await self._resolver(host, port)
        except TimeoutError as error:
            raise Failed('timeout', 'dns') from error
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            missing = isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME
            raise Failed('dns', 'no such name' if missing else 'no answer', again=not missing) from error
        if not answers:
            raise Failed('dns', 'no such name', again=False)
        admitted = self._admitted(host, port, [ipaddress.ip_address(answer) for answer in answers])
        return [ResolveResult(hostname=host, host=str(address), port=port, proto=0, flags=socket.AI_NUMERICHOST,
                              family=socket.AF_INET if address.version == 4 else socket.AF_INET6)
                for address in admitted[:_MOST_ANSWERS]]

    def socket(self, info: tuple) -> socket.socket:
        """The socket for one attempt to connect, to (family, type, protocol, name, address).

        Raises:
            Failed: forbidden_address, whatever led here.
        """
        family, kind, protocol, _, (host, port, *_) = info
        if (host, port) not in self._opened:
            self._refuse(ipaddress.ip_address(host))
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        """Wait for no look-up."""
        if self._own:
            self._own.shutdown(wait=False, cancel_futures=True)

    def _admitted(self, host: str, port: int, answers: list[addresses.Address]) -> list[addresses.Address]:
        name = f'[{host}]' if ':' in host else host
        if f'{name}:{port}' in self._allow:
            self._opened.update((str(address), port) for address in answers)
        else:
            for address in answers:
                self._refuse(address)
        return answers

    def _refuse(self, address: addresses.Address) -> None:
        reason = self._judge(address)
        if reason is not None:
            raise Failed('forbidden_address', reason)

    async def _look_up(self, host: str, port: int) -> list[str]:
        name = host.encode('ascii')  # as it is: the codec for names refuses some with an error of its own
        found = await asyncio.get_running_loop().run_in_executor(
            self._own, lambda: socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
        return list(dict.fromkeys(str(each[4][0]) for each in found))
