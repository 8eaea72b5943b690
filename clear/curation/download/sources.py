"""Where the image of a record lies: at its address, in a public store, in a mirror on a disk, in a folder of photos."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from clear.core.checks import check_choice, check_text, check_whole
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError, DataError
from clear.core.files import inside

if TYPE_CHECKING:
    from clear.core.types import Options, Plain
    from clear.curation.download.client import Client

PUBLIC_STORE = 'https://multimedia-commons.s3-us-west-2.amazonaws.com/data/images'
MISSING, OUTSIDE, UNREADABLE, TOO_LARGE, NO_NAME = 'missing', 'outside_root', 'unreadable', 'too_large', 'no_name'
_NOT_THERE = ('404', '403')  # a public store that may not be listed answers 403 for what it does not have
_HASH = re.compile('[0-9a-f]{7,32}')
_EXTENSION = re.compile('[A-Za-z0-9]{1,8}')

Record = Mapping[str, 'str | int | None']


class Got(NamedTuple):
    """What a source gave.

    Attributes:
        outcome: 'ok', or why there is no body.
        body: the bytes, unmodified.
        url: where they came from at last, after redirects; empty for a file.
        detail, attempts: for the ledger.
    """

    outcome: str
    body: bytes = b''
    url: str = ''
    detail: str = ''
    attempts: int = 1


class Source(Protocol):
    """A place of images.

    Attributes:
        COLUMNS: of the records that it needs; one that is not there counts as null.
        IS_REMOTE: whether it takes a client.
    """

    COLUMNS: ClassVar[tuple[str, ...]]
    IS_REMOTE: ClassVar[bool]

    def identity(self) -> dict[str, Plain]:
        """What of it decides the images: no root, for the same files may lie elsewhere."""

    def check(self) -> None:
        """Raise DataError if a root is not there."""

    async def get(self, record: Record, client: Client | None) -> Got:
        """The image of a record."""


@dataclass(frozen=True)
class Web:
    """The address of the record, which is that of Flickr's 500-pixel image in YFCC100M."""

    COLUMNS: ClassVar[tuple[str, ...]] = ('url',)
    IS_REMOTE: ClassVar[bool] = True

    def identity(self) -> dict[str, Plain]:
        return dict(type='Web')

    def check(self) -> None:
        """There is nothing to look at before anything is fetched."""

    async def get(self, record: Record, client: Client | None) -> Got:
        url = record['url']
        return Got(NO_NAME, detail='no address') if not url else await _fetched(client, url)


@dataclass(frozen=True)
class MMCommons:
    """The public store of YFCC100M: an image by its hash, `base/abc/123/abc123....jpg`, else with its own extension.

    Attributes:
        base: address of the folder with all the images.
    """

    base: str = PUBLIC_STORE
    COLUMNS: ClassVar[tuple[str, ...]] = ('hash', 'ext')
    IS_REMOTE: ClassVar[bool] = True

    def __post_init__(self):
        check_text('source.base', self.base)
        if not self.base.startswith(('https://', 'http://')):
            raise ConfigError(f"source.base is '{self.base}'; expected an address that begins with https:// or "
                              "http://. For files use dict(type='Mirror', root='...').")

    def identity(self) -> dict[str, Plain]:
        return dict(type='MMCommons')

    def check(self) -> None:
        """There is nothing to look at before anything is fetched."""

    async def get(self, record: Record, client: Client | None) -> Got:
        got = Got(NO_NAME, detail='no hash')
        for name in hash_paths(record):
            got = await _fetched(client, f'{self.base.rstrip("/")}/{name}')
            if got.outcome != 'http_4xx' or got.detail not in _NOT_THERE:
                break
        return got


@dataclass(frozen=True)
class Mirror:
    """Files on a disk.

    Attributes:
        root: their folder.
        by: 'hash', laid out as in the public store (`abc/123/abc123....jpg`); or 'id', `<id>.jpg`. Without such a file
            the record's own extension is tried.
        max_bytes: larger files are left out.
    """

    root: str
    by: str = 'hash'
    max_bytes: int = 64 << 20
    COLUMNS: ClassVar[tuple[str, ...]] = ('hash', 'ext', 'id')
    IS_REMOTE: ClassVar[bool] = False

    def __post_init__(self):
        check_text('source.root', self.root)
        check_whole('source.max_bytes', self.max_bytes, 1)
        check_choice('source.by', self.by, ('hash', 'id'))

    def identity(self) -> dict[str, Plain]:
        return dict(type='Mirror', by=self.by, max_bytes=self.max_bytes)

    def check(self) -> None:
        _check_root(self.root)

    async def get(self, record: Record, client: Client | None) -> Got:
        names = hash_paths(record) if self.by == 'hash' else _with_extensions(str(record['id']), record)
        got = Got(NO_NAME, detail='no hash')
        for name in names:
            got = await asyncio.to_thread(read_below, Path(self.root), name, self.max_bytes)
            if got.outcome != MISSING:
                break
        return got


@dataclass(frozen=True)
class Folder:
    """Files whose paths the records hold, relative to a folder.

    Attributes:
        root: the folder.
        max_bytes: larger files are left out.
    """

    root: str
    max_bytes: int = 64 << 20
    COLUMNS: ClassVar[tuple[str, ...]] = ('path',)
    IS_REMOTE: ClassVar[bool] = False

    def __post_init__(self):
        check_text('source.root', self.root)
        check_whole('source.max_bytes', self.max_bytes, 1)

    def identity(self) -> dict[str, Plain]:
        return dict(type='Folder', max_bytes=self.max_bytes)

    def check(self) -> None:
        _check_root(self.root)

    async def get(self, record: Record, client: Client | None) -> Got:
        path = record['path']
        if not path:
            return Got(NO_NAME, detail='no path')
        return await asyncio.to_thread(read_below, Path(self.root), path, self.max_bytes)


SOURCES: dict[str, type[Source]] = {kind.__name__: kind for kind in (Web, MMCommons, Mirror, Folder)}


def source_of(given: Options) -> Source:
    """The source of a config.

    Raises:
        ConfigError: for a type or a key that is none, or values that cannot be.
    """
    if not isinstance(given, Mapping) or given.get('type') not in SOURCES:
        raise ConfigError(f'source is {given!r}; expected a dict with type, one of {", ".join(SOURCES)}.')
    options = {key: value for key, value in given.items() if key != 'type'}
    made = SOURCES[given['type']]
    check_keys('source', options, set(made.__dataclass_fields__), given['type'])
    if 'root' in made.__dataclass_fields__ and 'root' not in options:
        raise ConfigError(f"source of type {given['type']} needs root, the folder with its files.")
    return made(**options)


def hash_paths(record: Record) -> list[str]:
    """Where an image lies in the public store, in the order to try; none without a hash that can be one."""
    name = record['hash']
    if not isinstance(name, str) or not _HASH.fullmatch(name):
        return []
    return _with_extensions(f'{name[:3]}/{name[3:6]}/{name}', record)


def read_below(root: Path, name: str, max_bytes: int) -> Got:
    """A regular file below a root, also after links are resolved."""
    try:
        path = inside(root, name)
        real = path.resolve(strict=True)
        if not real.is_relative_to(root.resolve()):
            return Got(OUTSIDE)
        if not real.is_file():
            return Got(UNREADABLE, detail='no regular file')
        if real.stat().st_size > max_bytes:
            return Got(TOO_LARGE)
        return Got('ok', real.read_bytes())
    except FileNotFoundError:
        return Got(MISSING)
    except DataError:
        return Got(OUTSIDE)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links that go round
        return Got(UNREADABLE, detail=getattr(error, 'strerror', None) or type(error).__name__)


async def _fetched(client: Client | None, url: str) -> Got:
    found = await client.fetch(url)
    return Got(found.outcome, found.body, found.url, found.detail, found.attempts)


def _with_extensions(stem: str, record: Record) -> list[str]:
    own = record['ext']
    names = [f'{stem}.jpg']
    if isinstance(own, str) and _EXTENSION.fullmatch(own) and own != 'jpg':
        names.append(f'{stem}.{own}')
    return names


def _check_root(root: str) -> None:
    if not Path(root).is_dir():
        raise DataError(f'source.root: {root} is no folder.')
