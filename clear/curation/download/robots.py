"""What hosts ask of robots: robots.txt by origin (RFC 9309), and X-Robots-Tag of an answer."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from protego import Protego
from yarl import URL

from clear.curation.download.limits import PRODUCT
from clear.curation.download.outcomes import Failed, Fetched

MOST_BYTES = 500 * 1024  # what RFC 9309 wants to be read at least; the rest is not
_KEPT_S, _FAILURE_KEPT_S = 24 * 3600.0, 60.0
_MOST_ORIGINS, _MOST_TEXT = 10_000, 2 * 2**20  # parsed, a byte becomes up to thirty
_MOST_CHARACTERS = 2000  # of a line
_WITHDRAWN = frozenset({'noai', 'noimageai', 'noindex', 'noimageindex', 'none'})


def withdrawn(tags: Iterable[str]) -> str | None:
    """The first directive of X-Robots-Tag headers that takes an image out, whichever robot it names; or None."""
    for tag in tags:
        for item in tag.lower().split(','):
            directive = item.rpartition(':')[2].strip()
            if directive in _WITHDRAWN:
                return directive
    return None


@dataclass
class _Origin:
    until: float
    bytes: int = 0
    rules: Protego | None = None  # None: everything is allowed
    delay_s: float = 0.0
    failed: Fetched | None = None


class Robots:
    """robots.txt of every origin, asked once a day.

    Not found (4xx), or behind too many redirects: everything is allowed. A server that fails or is not there: nothing
    is, for a minute, and the records are named after its failure.

    Args:
        fetch: gets a robots.txt, cut at `MOST_BYTES`.
        max_delay_s: the longest Crawl-delay that is waited for.
    """

    def __init__(self, fetch: Callable[[URL], Awaitable[Fetched]], max_delay_s: float):
        self._fetch, self._max_delay_s = fetch, max_delay_s
        self._origins: OrderedDict[str, _Origin] = OrderedDict()
        self._asking: dict[str, asyncio.Future[_Origin]] = {}
        self._bytes = 0

    async def delay_s(self, url: URL, text: str) -> float:
        """Seconds that the host wants between two requests.

        Raises:
            Failed: robots if it may not be asked for `url`, of that text; else what kept us from its robots.txt.
        """
        name = f'{url.scheme}://{url.raw_authority}'
        origin = self._origins.get(name)
        if origin is None or origin.until < time.monotonic():
            origin = await self._ask(name, url)
        if origin.failed is not None:
            raise Failed(origin.failed.outcome, f'robots.txt: {origin.failed.detail}'.rstrip(': '), again=False)
        if origin.delay_s > self._max_delay_s:
            raise Failed('robots', f'Crawl-delay {origin.delay_s:g}')
        if origin.rules is not None and not origin.rules.can_fetch(text, PRODUCT):
            raise Failed('robots', 'disallowed')
        return origin.delay_s

    async def _ask(self, name: str, url: URL) -> _Origin:
        """Ask once for all that wait; if the one who asks is cancelled, another does."""
        while name in self._asking:
            await asyncio.wait([self._asking[name]])
            if (origin := self._origins.get(name)) is not None and origin.until >= time.monotonic():
                return origin
        self._asking[name] = future = asyncio.get_running_loop().create_future()
        try:
            fetched = await self._fetch(url.with_path('/robots.txt').with_query(None).with_fragment(None))
            origin = _origin(fetched)
            self._keep(name, origin)
            return origin
        finally:
            del self._asking[name]
            future.cancel()

    def _keep(self, name: str, origin: _Origin) -> None:
        old = self._origins.pop(name, None)
        self._origins[name] = origin
        self._bytes += origin.bytes - (old.bytes if old else 0)
        while len(self._origins) > 1 and (self._bytes > _MOST_TEXT or len(self._origins) > _MOST_ORIGINS):
            self._bytes -= self._origins.popitem(last=False)[1].bytes


def _origin(fetched: Fetched) -> _Origin:
    now = time.monotonic()
    if fetched.outcome in ('http_4xx', 'http_status', 'too_many_redirects', 'empty'):
        return _Origin(now + _KEPT_S)
    if fetched.outcome != 'ok':
        return _Origin(now + _FAILURE_KEPT_S, failed=fetched)
    body = fetched.body
    if len(body) == MOST_BYTES:
        body = body[:body.rfind(b'\n') + 1]  # its last line may be cut
    lines = body.decode('utf-8-sig', 'replace').splitlines()
    # The parser takes seconds for some lines that nobody writes in earnest.
    rules = Protego.parse('\n'.join(line for line in lines if len(line) <= _MOST_CHARACTERS))
    return _Origin(now + _KEPT_S, len(body), rules, rules.crawl_delay(PRODUCT) or 0.0)
