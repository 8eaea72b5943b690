"""The client that fetches images from hosts that are nobody's."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import fnmatch
import os
import random
import re
import resource
import time
from dataclasses import dataclass
from types import TracebackType

import aiohttp
from aiohttp import StreamReader
from yarl import URL

from clear.core.errors import ClearError, ConfigError
from clear.curation.download import addresses
from clear.curation.download.exchange import MOST_IDLE, Answer, Exchange
from clear.curation.download.gate import SHORTAGES, Gate, Judge, Resolver
from clear.curation.download.hosts import Host, Hosts, Pace
from clear.curation.download.images import has_end, is_markup
from clear.curation.download.limits import Limits
from clear.curation.download.outcomes import OK, Failed, Fetched
from clear.curation.download.robots import MOST_BYTES, Robots, withdrawn
from clear.curation.download.targets import redirected, target
from clear.curation.download.watch import Watch, Watches

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_COME_LATER = frozenset({408, 425, 429})
_DRAINED = 64 * 2**10  # bytes of an answer nobody wants that are read to keep the connection
_CLOSE_S = 5.0
_OTHER_FILES = 128


@dataclass(slots=True)
class _Errand:
    """One record on its way."""

    left_s: float
    most: int
    is_image: bool = True  # else a robots.txt: nobody is asked for it, and its first `most` bytes are enough
    url: URL | None = None
    text: str = ''
    redirects: int = 0


class Client:
    """Fetches addresses over one pool of connections; use it as an `async with`.

    It asks public addresses only, connects to what it has judged, and judges every redirect anew. It knows no proxy, no
    cookie, no password and no environment. Bodies are bounded as they stream, and are kept as they were served.

    Args:
        limits: see `Limits`.
        resolver: (name, port) -> addresses, in place of the system's.
        judge: why an address may not be asked, or None; for tests.
    """

    def __init__(self, limits: Limits, *, resolver: Resolver | None = None, judge: Judge = addresses.forbidden):
        self.limits = limits
        self._gate = Gate(limits.allow, limits.connect_s, resolver, judge)
        self._hosts = Hosts(limits)
        self._robots = Robots(self._fetch_robots, limits.max_wait_s)
        self._slots = asyncio.Semaphore(limits.connections)
        self._bytes = Pace(limits.bytes_per_s)
        self._is_paced = limits.bytes_per_s is not None or limits.host_bytes_per_s is not None
        self._placeholder = re.compile('|'.join(map(fnmatch.translate, limits.placeholders)) or r'(?!)').match
        self._random = random.Random()
        self._watches = Watches(limits.read_s, limits.total_s)

    async def __aenter__(self) -> Client:
        _check_open_files(self.limits.connections)
        headers = {'User-Agent': self.limits.user_agent, 'Accept': 'image/*,*/*;q=0.5', 'Accept-Encoding': 'identity'}
        self._exchange = Exchange(self._gate, headers, self.limits.connect_s)
        self._watches.start(self._exchange.count_idle)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        self._watches.stop()
        await self._gate.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._exchange.close()

    async def fetch(self, url: str) -> Fetched:
        """What becomes of an address; it raises for nothing that a host or a record can bring about."""
        return await self._fetch(url, _Errand(self.limits.total_s, self.limits.max_bytes))

    async def _fetch_robots(self, url: URL) -> Fetched:
        return await self._fetch(str(url), _Errand(self.limits.total_s, MOST_BYTES, is_image=False))

    async def _fetch(self, text: str, errand: _Errand) -> Fetched:
        attempts = 0
        while True:
            attempts += 1
            try:
                (errand.url, errand.text), errand.redirects = target(text), 0
                while (body := await self._hop(errand)) is None:
                    errand.redirects += 1
                return Fetched(OK, '', body, errand.text, attempts)
            except Failed as failure:
                wait_s = self._wait_s(failure, attempts)
                if not failure.again or attempts > self.limits.retries or errand.left_s <= 0 or wait_s is None:
                    return Fetched(failure.outcome, failure.detail, b'', errand.text, attempts,
                                   failure.retry_after)
            await asyncio.sleep(wait_s)

    def _wait_s(self, failure: Failed, attempts: int) -> float | None:
        """Before the next attempt; None if the host asks for more than we wait."""
        longest = self.limits.max_wait_s
        wait_s = min(longest, self.limits.backoff_s * 2 ** (attempts - 1) * self._random.uniform(0.5, 1.5))
        if failure.retry_after is None:
            return wait_s
        return max(wait_s, failure.retry_after) if failure.retry_after <= longest else None

    async def _hop(self, errand: _Errand) -> bytes | None:
        """One request: a body, or None after a redirect, which is in `errand.url` then.

        Raises:
            Failed: if there is neither.
        """
        url = errand.url
        self._gate.admit(url.raw_host, url.port)
        delay_s = 0.0
        if errand.is_image:
            if self._placeholder(errand.text):
                raise Failed('placeholder')
            if self.limits.robots:
                delay_s = await self._robots.delay_s(url, errand.text)
        host = self._hosts[url.raw_host]
        host.users += 1
        try:
            async with host.slots:
                host.check()
                wait_s = host.turn_s(delay_s)
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                # Last, so that no connection waits for a slow host.
                async with self._slots:
                    host.begin()
                    return await self._timed(errand, host)
        finally:
            host.users -= 1

    async def _timed(self, errand: _Errand, host: Host) -> bytes | None:
        watch, outcome = Watch(self._watches, errand.left_s), None
        try:
            async with watch:
                body = await self._request(errand, host, watch)
            outcome = OK
            return body
        except Failed as failure:
            outcome = failure.outcome
            if failure.retry_after is not None:
                host.pause(failure.retry_after)
            raise
        finally:
            errand.left_s -= watch.spent_s()
            if outcome is None:
                host.give_up()
            else:
                host.note(outcome)

    async def _request(self, errand: _Errand, host: Host, watch: Watch) -> bytes | None:
        try:
            try:
                answer = await self._exchange.ask(errand.url, watch)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if watch.is_new:
                    raise
                # The host closed a connection that was kept from an earlier request: one more request, in its turn.
                await watch.pause(host.turn_s())
                answer = await self._exchange.ask(errand.url, watch)
            try:
                return await self._body(errand, answer, host, watch)
            finally:
                answer.release()
        except (aiohttp.ClientError, OSError) as error:
            raise _failed(error) from error

    async def _body(self, errand: _Errand, answer: Answer, host: Host, watch: Watch) -> bytes | None:
        """The body that is wanted, or None after a redirect.

        Raises:
            Failed: if it is not wanted.
        """
        status, headers, length = answer.status, answer.headers, answer.length
        leads_on = status in _REDIRECTS and 'Location' in headers
        if 'X-Robots-Tag' in headers and (status == 200 or leads_on) and self.limits.opt_out and errand.is_image:
            directive = withdrawn(headers.getall('X-Robots-Tag'))
            if directive is not None:
                raise Failed('opt_out', directive)
        if status != 200:
            await _drain(answer)
            if leads_on:
                if errand.redirects >= self.limits.max_redirects:
                    raise Failed('too_many_redirects', str(self.limits.max_redirects))
                errand.url, errand.text = redirected(errand.text, headers['Location'])
                return None
            raise _refusal(status, headers.get('Retry-After'))
        encoding = headers.get('Content-Encoding', 'identity').strip().lower()
        if encoding not in ('', 'identity'):
            raise Failed('encoded', encoding[:20] if encoding.isalnum() else '')
        if length is not None and length > errand.most and errand.is_image:
            raise Failed('too_large', 'announced')
        body = await self._read(errand, answer.content, host, watch)
        if not body:
            raise Failed('empty')
        if errand.is_image:
            if is_markup(body):
                raise Failed('html')
            # Where no length was announced, the end of the connection looks like the end of the body.
            if length is None and not answer.is_chunked and not has_end(body):
                raise Failed('truncated', 'no length')
        return body

    async def _read(self, errand: _Errand, stream: StreamReader, host: Host, watch: Watch) -> bytes:
        most = errand.most
        parts, size = [], 0
        while part := await stream.readany():
            parts.append(part)
            size += len(part)
            if size > most:
                if errand.is_image:
                    raise Failed('too_large', 'sent')
                break
            if self._is_paced:
                await watch.pause(max(self._bytes.wait_s(len(part)), host.bytes.wait_s(len(part))))
            watch.touch()
        return b''.join(parts)[:most] if len(parts) != 1 else parts[0][:most]


async def _drain(answer: Answer) -> None:
    """Read a short body that nobody wants, so that the connection can be used again."""
    length = answer.length
    if length is not None and length <= _DRAINED:
        with contextlib.suppress(aiohttp.ClientError):
            while await answer.content.readany():
                pass


def _check_open_files(connections: int) -> None:
    needed, soft = connections + MOST_IDLE + _OTHER_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft != resource.RLIM_INFINITY and soft < needed:
        raise ConfigError(f'limits.connections is {connections}, for which a process needs {needed} open files and may '
                          f'have {soft}. Use fewer, or raise the limit: ulimit -n {needed}.')


def _refusal(status: int, retry_after: str | None) -> Failed:
    seconds = retry_after_s(retry_after)
    if status in _COME_LATER or status == 503 and seconds is not None:
        return Failed('throttled', str(status), seconds)
    if status >= 500:
        return Failed('http_5xx', str(status), seconds)
    return Failed('http_4xx' if status >= 400 else 'http_status', str(status))


def retry_after_s(text: str | None) -> float | None:
    """Seconds that a Retry-After asks for, by a number or a date; None for anything else."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        return None


def _failed(error: Exception) -> Failed:
    """What an error of aiohttp says.

    Raises:
        ClearError: if it says something of this machine.
    """
    if getattr(error, 'errno', None) in SHORTAGES:
        raise ClearError(f'No more connections can be opened: {os.strerror(error.errno)}. Lower limits.connections or '
                         'the number of workers, or raise the limit of open files (ulimit -n).') from error
    if isinstance(error, aiohttp.ClientSSLError):
        return Failed('tls', 'certificate' if isinstance(error, aiohttp.ClientConnectorCertificateError) else '')
    if isinstance(error, TimeoutError):  # of a body it is `Watch` that ends the waiting
        return Failed('timeout', 'connect')
    if isinstance(error, aiohttp.ClientPayloadError):
        return Failed('truncated')
    if isinstance(error, (aiohttp.ClientConnectionError, OSError)):
        return Failed('connection', 'refused' if isinstance(getattr(error, 'os_error', error), ConnectionRefusedError)
                      else '')
    if isinstance(error, aiohttp.InvalidURL):
        return Failed('bad_url', 'unreadable')
    return Failed('bad_http')
