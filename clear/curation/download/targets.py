"""From the text of an address to what is asked: parsed once, by the parser that the connection uses."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple
from urllib.parse import quote, urljoin

from yarl import URL

from clear.curation.download import addresses
from clear.curation.download.outcomes import Failed

_SCHEMES = ('http', 'https')
_MOST_CHARACTERS = 8000
# What a request line may hold as it is.
_CLEAN = re.compile(r"[!#-;=?-\[\]_a-z~%]+").fullmatch
_CONTROL = re.compile('[\x00-\x1f\x7f-\x9f\ud800-\udfff\\\\]').search
_HOST = re.compile(r'[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?').fullmatch


class Target(NamedTuple):
    """An address, and its text."""

    url: URL
    text: str


def target(text: str) -> Target:
    """The address to ask for; its path and query stay byte by byte what the text says, because some are signed.

    The host is a name, or an address in canonical form. Blanks and what is not ASCII are percent-encoded.

    Raises:
        Failed: bad_url or forbidden_scheme; for a forbidden literal address, forbidden_address is left to `Gate`.
    """
    if len(text) > _MOST_CHARACTERS or _CONTROL(text):
        raise Failed('bad_url', 'too long' if len(text) > _MOST_CHARACTERS else 'control characters')
    text = text.strip(' ')
    try:
        if not _CLEAN(text):
            text = _quoted(text)
        url = URL(text, encoded=True)
        host, port = url.raw_host, url.port
    except ValueError as error:  # UnicodeError is one
        raise Failed('bad_url', 'unreadable') from error
    if url.scheme not in _SCHEMES:
        raise Failed('forbidden_scheme', url.scheme[:20] if url.scheme.isascii() else '')
    if not host or not port or '@' in url.raw_authority:
        raise Failed('bad_url', 'no host' if not host else 'no port' if not port else 'a user in it')
    return _canonical(url, host, text)


def redirected(url: str, location: str) -> Target:
    """Where a redirect of `url` leads.

    Raises:
        Failed: as `target`.
    """
    if _CONTROL(location):
        raise Failed('bad_url', 'control characters')
    try:
        return target(urljoin(url, location.strip(' ')))
    except ValueError as error:
        raise Failed('bad_url', 'unreadable') from error


def _quoted(text: str) -> str:
    """Blanks, quotes and what is not ASCII percent-encoded; a host in its ASCII form."""
    head, slashes, rest = text.partition('://')
    end = min((at for sign in '/?#' if (at := rest.find(sign)) >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if not authority.isascii():
        name, colon, port = authority.partition(':')
        authority = (URL.build(scheme='http', host=name).raw_host or '') + colon + port
    return head + slashes + authority + quote(path, safe="!#$%&'()*+,/:;=?@[]~-._")


def _canonical(url: URL, host: str, text: str) -> Target:
    try:
        form = _form(host)
        if form == host:
            return Target(url, text)
        url = url.with_host(form)
    except ValueError as error:
        raise Failed('bad_url', 'no name of a host') from error
    return Target(url, str(url))


@functools.lru_cache(4096)
def _form(host: str) -> str:
    """The host in its one form: an address as everybody writes it, a name in small letters.

    Raises:
        ValueError: if it is neither.
    """
    host = host.lower()
    address = addresses.literal(host)
    if address is not None:
        return str(address)
    if not _HOST(host):
        raise ValueError(host)
    return host
