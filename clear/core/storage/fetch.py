"""Fetch one file over HTTP, to the end: resumed, retried, from the first mirror that works."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from clear.core.errors import ConfigError, DataError
from clear.core.files import read_json, regular_file, require_space, write_json
from clear.core.logs import Report

TIMEOUT_S = 30.0
TRIES = 3  # in a row without a new byte
BACKOFF_S = 1.0  # doubled after each try

_BLOCK_BYTES = 1 << 20
# URLError, timeouts and resets are OSErrors; a ValueError is an address or a number that cannot be parsed.
_NETWORK_TROUBLE = (OSError, http.client.HTTPException, ValueError)
_MAX_DIGITS = 18
_WORTH_A_RETRY = (408, 425, 429, 500, 502, 503, 504)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Refuses a step to a less safe address: whoever answers there may send the next anywhere, to https again."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if urlsplit(newurl).scheme not in (urlsplit(req.full_url).scheme, 'https'):
            fp.close()
            raise TransferError(f'it leads to {newurl}, which is less safe', retry=False)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class TransferError(Exception):
    """One address did not deliver the file; `retry` says whether it may do so in a moment."""

    def __init__(self, reason: str, retry: bool = True) -> None:
        super().__init__(reason)
        self.retry = retry


def check_url(url: str) -> None:
    """Raise a ConfigError unless `url` is an http, https or file address."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme == 'file' or parts.scheme in ('http', 'https') and parts.hostname and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is no number
        fits = False
    if not fits:
        raise ConfigError(f"'{url}' is no http://, https:// or file:// address.")


def parse_hashes(pairs: Sequence[str]) -> dict[str, str]:
    """`['clear10-train.zip=ab12…']`, as a command line has them, -> `{'clear10-train.zip': 'ab12…'}`.

    Raises:
        ConfigError: if one is malformed.
    """
    hashes = {}
    for pair in pairs:
        archive, _, digest = pair.partition('=')
        if not re.fullmatch(r'[0-9a-fA-F]{64}', digest):
            raise ConfigError(f"--sha256 '{pair}' is not ARCHIVE=HEX with 64 hexadecimal digits.")
        hashes[archive] = digest
    return hashes


def fetch(url: str, part: str | Path, *, timeout_s: float = TIMEOUT_S, tries: int = TRIES, backoff_s: float = BACKOFF_S,
          progress: Report | None = None) -> None:
    """Download `url` to the file `part`, continuing what an earlier call left there.

    `<part>.json` remembers address, ETag and size. The rest is asked for with `Range` and `If-Range`; a server that
    ignores them, or whose file has changed, makes the download start anew.

    Raises:
        TransferError: if the address does not deliver; what has arrived stays in `part`.
        DataError: if the file cannot be stored.
    """
    part = Path(part)
    failures, most = 0, _size(part)
    while True:
        try:
            _fetch_once(url, part, timeout_s, progress)
            return
        except TransferError as error:
            failures = 1 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            if not error.retry or failures >= tries:
                raise
        time.sleep(backoff_s * 2 ** (failures - 1))


def discard(part: str | Path) -> None:
    """Remove a partial download and what is remembered about it."""
    Path(part).unlink(missing_ok=True)
    _memory(Path(part)).unlink(missing_ok=True)


def _fetch_once(url: str, part: Path, timeout_s: float, progress: Report | None) -> None:
    known = remembered(part)
    start = _size(part) if known.get('url') == url else 0
    try:
        if urlsplit(url).scheme == 'file':
            regular_file(url2pathname(urlsplit(url).path))
        opener = urllib.request.build_opener(_Redirects)
        response = opener.open(_request(url, start, known.get('etag')), timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:  # asked for bytes behind the end: complete, or no longer the same file
            if start == known.get('size') == _total_of(error.headers.get('Content-Range')):
                return
            discard(part)
            raise TransferError('its size has changed since the download began') from error
        raise TransferError(f'HTTP {error.code} {error.reason}', retry=error.code in _WORTH_A_RETRY) from error
    except _NETWORK_TROUBLE as error:
        # A missing local file stays missing, and an answer with an address that is none stays so too.
        retry = urlsplit(url).scheme != 'file' and not isinstance(error, ValueError)
        raise TransferError(_reason(error), retry=retry) from error
    with response:
        total, resumed = _place_in_file(response, part, start, known)
        done = start if resumed else 0
        if not resumed:
            discard(part)  # before the new ETag is remembered: a crash must not join old bytes to it
        if total is not None:
            require_space(part.parent, total - done, f'downloading {url}')
        write_json(_memory(part), {'url': url, 'etag': _strong_etag(response), 'size': total})
        _copy(response, part, done, total, progress)


def _request(url: str, start: int, etag: str | None) -> urllib.request.Request:
    headers = {'User-Agent': 'clear-framework', 'Accept-Encoding': 'identity'}
    if start:
        headers['Range'] = f'bytes={start}-'
        if etag:
            headers['If-Range'] = etag
    return urllib.request.Request(url, headers=headers)


def _place_in_file(response, part: Path, start: int, known: dict) -> tuple[int | None, bool]:
    """What the answer holds: (size of the whole file or None, whether it continues at `start`)."""
    if response.status != 206:  # 200, or None for file://
        length = response.headers.get('Content-Length')
        if length and not _is_size(length.strip()):
            raise TransferError(f"the answer has the Content-Length '{length[:40]}'", retry=False)
        return (int(length) if length else None), False
    content_range = response.headers.get('Content-Range') or ''
    total = _total_of(content_range)
    etag = _strong_etag(response)
    changed = total != known.get('size') or (etag and known.get('etag') and etag != known['etag'])
    if changed or not content_range.startswith(f'bytes {start}-'):
        discard(part)
        raise TransferError('the file has changed since the download began')
    return total, True


def _copy(response, part: Path, done: int, total: int | None, progress: Report | None) -> None:
    try:
        with open(part, 'ab' if done else 'wb') as file:
            while block := _read_block(response, done):
                file.write(block)
                done += len(block)
                if total is not None and done > total:
                    break
                if progress is not None:
                    progress(done, total)
    except OSError as error:  # of the disk: those of the network have become TransferErrors
        raise DataError(f'{part} cannot be written: {error.strerror}. Rerun the same command to go on.') from error
    # http.client reports a connection that closes early only when asked for everything at once.
    if total is not None and done != total:
        raise TransferError(f'connection closed after {done} of {total} bytes' if done < total else
                            f'more than the {total} bytes came that were announced', retry=done < total)


def _read_block(response, done: int) -> bytes:
    try:
        return response.read1(_BLOCK_BYTES)  # whatever has arrived, so that a broken transfer keeps it
    except _NETWORK_TROUBLE as error:
        raise TransferError(f'interrupted after {done} bytes: {_reason(error)}') from error


def _memory(part: Path) -> Path:
    return part.with_name(part.name + '.json')


def remembered(part: Path) -> dict:
    """Address, ETag and size of the partial download `part`; empty if there is none."""
    if not part.is_file() or not _memory(part).is_file():
        return {}
    try:
        known = read_json(_memory(part))
    except DataError:
        return {}  # starting anew is always right
    fits = (isinstance(known, dict) and isinstance(known.get('url'), str)
            and isinstance(known.get('etag'), (str, type(None))) and isinstance(known.get('size'), (int, type(None))))
    return known if fits else {}


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _total_of(content_range: str | None) -> int | None:
    """The total in `bytes 5-9/10` or `bytes */10`."""
    match = re.fullmatch(r'bytes (?:\d+-\d+|\*)/(\d+)', content_range or '', re.ASCII)
    return int(match[1]) if match and _is_size(match[1]) else None


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS


def _strong_etag(response) -> str | None:
    etag = response.headers.get('ETag')
    return etag if etag and not etag.startswith('W/') else None


def _reason(error: Exception) -> str:
    cause = getattr(error, 'reason', None) or error
    text = getattr(cause, 'strerror', None) or str(cause) or type(cause).__name__
    return f'{text} ({type(cause).__name__})'
