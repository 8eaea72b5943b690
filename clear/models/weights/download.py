"""Weights from an address: downloaded once into a cache, named in the log, checked, and used from there."""

from __future__ import annotations

import hashlib
import os
import re
import time
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from clear.core.errors import BusyError, CheckpointError, ConfigError, DataError
from clear.core.files import sha256_of
from clear.core.logs import Report, logger, progress_bar
from clear.core.storage.fetch import BACKOFF_S, TIMEOUT_S, TransferError, check_url, discard, fetch
from clear.core.storage.locks import locked

_SHA256 = re.compile(r'[0-9a-fA-F]{64}')
# torch, timm and mmpretrain end a file's name with the first digits of its SHA-256: resnet50-0676ba61.pth.
_HASH_IN_NAME = re.compile(r'-([0-9a-f]{8,64})(?:\.(?:pth|pt|bin|ckpt|tar|safetensors))+')
_DATE = re.compile(r'(?:19|20)\d{6}')
_POLL_S = 0.2


def is_address(path: str | Path) -> bool:
    return '://' in str(path)


def check_address(where: str, path: object, sha256: object = None) -> None:
    """What can be said of a file of weights before it is looked for.

    Args:
        where: what to call it in a message: the key of a config.

    Raises:
        ConfigError: if it is an address that is neither http nor https, holds a password or ends in `#` and something
            other than `sha256=...`, or `sha256` is none, is another than that one or goes with no address.
    """
    if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        raise ConfigError(f'{where}: sha256 is {sha256!r}; expected 64 hexadecimal digits.')
    if not is_address(path):
        if sha256 is not None:
            raise ConfigError(f'{where}: sha256 goes with an address (https://...); {path} is a file.')
        return
    check_url(str(path))
    parts = urlsplit(str(path))
    if parts.scheme == 'file':
        raise ConfigError(f'{where}: {path} is downloaded over http or https alone; a local file is named by its path.')
    if '@' in parts.netloc:
        raise ConfigError(f'{where}: the address holds a user or a password, which would stand in the log. Download '
                          'the file yourself and name its path.')
    key, _, digits = parts.fragment.partition('=')
    if parts.fragment and (key != 'sha256' or not _SHA256.fullmatch(digits)):
        raise ConfigError(f"{where}: what follows '#' in {path} is not read; expected #sha256= and 64 hexadecimal "
                          'digits, or nothing.')
    if parts.fragment and sha256 is not None and sha256.lower() != digits.lower():
        raise ConfigError(f'{where}: sha256 is {sha256}, and {digits} in the address.')


def cache_folder() -> Path:
    """`$CLEAR_CACHE`, else `$XDG_CACHE_HOME/clear`, else `~/.cache/clear`."""
    own, shared = os.environ.get('CLEAR_CACHE'), os.environ.get('XDG_CACHE_HOME')
    return Path(own).expanduser() if own else Path(shared or Path.home() / '.cache') / 'clear'


def local_weights(path: str | Path, sha256: str | None = None, *, timeout_s: float = TIMEOUT_S,
                  backoff_s: float = BACKOFF_S) -> Path:
    """The file, or the copy in the cache of what an http(s) address gives, downloaded if it is not there.

    A download that was cut short goes on where it stopped. Several processes that want one file get it once.

    Args:
        sha256: of the file at an address, which may also end in `#sha256=...`. Without it the digits at the end of the
            file's name are compared, where it has them (`-0676ba61.pth`).

    Raises:
        ConfigError: as `check_address`.
        CheckpointError: if the address does not deliver the file, or it has another SHA-256; nothing is kept of it.
    """
    check_address('weights', path, sha256)
    if not is_address(path):
        return Path(path)
    url, _, fragment = str(path).partition('#')
    sha256 = sha256 or fragment.removeprefix('sha256=') or None
    name = unquote(urlsplit(url).path).rpartition('/')[2]
    if not re.fullmatch(r'[\w.+=,-]{1,200}', name) or name.startswith('.'):
        raise ConfigError(f'{url} ends in no name of a file.')
    file = cache_folder() / 'weights' / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    get = partial(_get, url, file, sha256 or _digits(name), timeout_s, backoff_s)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f'{file.parent}, the place of {url}, cannot be made: {error.strerror}. Name another with '
                              '$CLEAR_CACHE.') from error
    _alone(file.with_name(f'.{name}.lock'), get)
    return file


def _alone(lock: Path, do: partial) -> None:
    """Call it while no other process does."""
    is_said = False
    while True:
        try:
            with locked(lock, '', BusyError):
                do()
                return
        except BusyError:
            if not is_said:
                logger.info('%s is being downloaded by another process; waiting', lock.parent)
            is_said = True
        time.sleep(_POLL_S)


def _get(url: str, file: Path, expected: str | None, timeout_s: float, backoff_s: float) -> None:
    if file.is_file() and (expected is None or sha256_of(file).startswith(expected.lower())):
        logger.info('%s: %s, downloaded before', url, file)
        return
    part = file.with_name(f'{file.name}.part')
    logger.info('downloading %s to %s', url, file)
    try:
        with progress_bar(file.name, 'B') as bar:
            fetch(url, part, timeout_s=timeout_s, backoff_s=backoff_s, progress=_naming_size(file.name, bar))
    except TransferError as error:
        raise CheckpointError(f'{url}: {error}. Nothing was loaded; what has arrived is kept, and the same command '
                              'goes on.' if part.is_file() else f'{url}: {error}. Nothing was loaded.') from error
    except DataError as error:
        raise CheckpointError(str(error)) from error
    found = sha256_of(part)
    problem = _problem(part, found, expected)
    if problem:
        discard(part)
        raise CheckpointError(f'{url}: {problem}. Nothing was kept.')
    part.replace(file)
    discard(part)  # what was remembered about it
    logger.info('%s: SHA-256 %s%s', file.name, found, '' if expected else ', compared with nothing: none was given')


def _naming_size(name: str, bar: Report) -> Report:
    is_named = False

    def report(done: int, total: int | None) -> None:
        nonlocal is_named
        if not is_named:
            logger.info('%s: %s', name, 'of unknown size' if total is None else f'{total / 2**20:.1f} MiB')
        is_named = True
        bar(done, total)

    return report


def _problem(part: Path, found: str, expected: str | None) -> str | None:
    if expected is not None and not found.startswith(expected.lower()):
        given = 'the SHA-256' if len(expected) == 64 else 'the SHA-256, by the name of the file,'
        return f'{given} is to begin with {expected.lower()}, and is {found}'
    with part.open('rb') as file:
        begin = file.read(64).lstrip().lower()
    return 'the answer is a page of text, not a file of weights' if begin.startswith((b'<!doctype', b'<html')) else None


def _digits(name: str) -> str | None:
    found = _HASH_IN_NAME.search(name)
    return found[1] if found and found.end() == len(name) and not _DATE.fullmatch(found[1]) else None
