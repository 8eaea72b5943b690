"""What becomes of an address: the names of outcomes, and which of them another try may change."""

from __future__ import annotations

from dataclasses import dataclass

OK = 'ok'
# An answer that stands: the photo is gone, or may not be had, or is none.
PERMANENT = {
    'http_4xx': 'the server says no: 404, 410, 403 ... (detail: the status)',
    'http_status': 'a status that brings no whole body: 204, 206, 304, a redirect to nowhere ...',
    'bad_url': 'no address that can be asked: unreadable, with control characters, a user or a password in it',
    'forbidden_scheme': 'neither http nor https, in the record or in a redirect',
    'forbidden_address': 'the host is, or one of its answers is, no public address',
    'too_many_redirects': 'more than max_redirects',
    'tls': 'the certificate does not hold, or there is no common TLS',
    'robots': "robots.txt asks us to stay away, or to wait for longer than max_wait_s between two requests",
    'opt_out': 'X-Robots-Tag: noai, noimageai, noindex, noimageindex or none',
    'encoded': 'a body in a Content-Encoding, which nobody asked for; it is not unpacked',
    'too_large': 'more than max_bytes, announced or sent',
    'empty': 'a body of no bytes',
    'html': 'a page in place of an image',
    'placeholder': 'the address of a stand-in for removed photos',
}
# Another try, in a while or in another run, may bring the photo.
TEMPORARY = {
    'http_5xx': 'the server failed (detail: the status)',
    'throttled': '408, 425, 429, or 503 with Retry-After: asked to come later',
    'dns': 'the name was not found, or the resolver did not answer',
    'connection': 'refused, reset or closed before an answer',
    'timeout': 'no connection, no byte, or not all of them in time (detail: dns, connect, read, total)',
    'bad_http': 'what came is no HTTP, or has endless headers',
    'truncated': 'the body ended before its announced length',
    'host_down': 'the host failed so often in a row that it is left alone for a while (detail: what it failed by)',
}
# Those that say something about the host: in a row, they open its circuit breaker.
HOST_FAILURES = frozenset({'http_5xx', 'throttled', 'dns', 'connection', 'timeout', 'bad_http'})


class Failed(Exception):
    """An address gave nothing.

    Args:
        outcome: a name of `PERMANENT` or `TEMPORARY`.
        detail: a few words.
        retry_after: seconds that the server asked to wait for.
        again: whether it makes sense to try again at once; by default if the outcome is temporary.
    """

    def __init__(self, outcome: str, detail: str = '', retry_after: float | None = None, *, again: bool | None = None):
        super().__init__(outcome, detail)
        self.outcome, self.detail, self.retry_after = outcome, detail, retry_after
        self.again = outcome in TEMPORARY if again is None else again


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one address.

    Attributes:
        outcome: 'ok', or a name of `PERMANENT` or `TEMPORARY`.
        detail: a few words, e.g. the status; no path and no address.
        body: the bytes as they were served; empty unless ok.
        url: the final address, after redirects.
        attempts: how often it was tried; redirects and robots.txt count as part of one.
        retry_after: seconds that the server asked to wait for, if it did.
    """

    outcome: str
    detail: str = ''
    body: bytes = b''
    url: str = ''
    attempts: int = 0
    retry_after: float | None = None

    @property
    def is_temporary(self) -> bool:
        """Whether another try may bring it."""
        return self.outcome in TEMPORARY
