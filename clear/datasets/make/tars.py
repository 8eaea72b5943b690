"""Tar archives from outside, gzipped or not: checked before use, unpacked without leaving their folder."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from clear.core.errors import DataError
from clear.core.files import inside, regular_file, require_space, sha256_of
from clear.core.logs import Report

_BLOCK_BYTES = 1 << 20
_END_BYTES = 1024
_GZIP = b'\x1f\x8b'
# What reading raises on bytes that are no sound archive; ValueError for numbers in headers that are none.
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError, ValueError)


def verify_tar(path: str | Path, sha256: str | None = None) -> str:
    """Check the SHA-256, if one is given, every member's header, and that the archive goes on to its end; returns the
    SHA-256.

    Raises:
        DataError: if the hash differs, or the file is no gzipped tar, damaged or cut short.
    """
    found = sha256_of(path)
    if sha256 is not None and found != sha256.lower():
        raise DataError(f'{path} has SHA-256 {found}, expected {sha256.lower()}.')
    with _damage(path), _opened(path) as unpacked:
        if not any(True for _ in _members(path, unpacked)):
            raise DataError(f'{path} is damaged or no gzipped tar archive: it has no members.')
        # Up to here all would be well with an archive that is cut at the end of a member.
        while unpacked.read(_BLOCK_BYTES):
            pass
    return found


def extract_tar(path: str | Path, folder: str | Path, progress: Report | None = None) -> None:
    """Unpack a tar into an existing folder: regular files and folders. All members are checked before the
    first is written.

    Args:
        progress: called as `progress(done, total)` with unpacked bytes.

    Raises:
        DataError: if a member would leave `folder`, is a link or a special file, is there twice, if the archive is
            damaged, or if the disk has too little room.
    """
    folder, names, total = Path(folder), set(), 0
    with _damage(path), _opened(path) as unpacked:
        for member in _members(path, unpacked):
            _check(path, member, folder)
            if member.isfile() and member.name in names:
                raise DataError(f"{path}: member '{member.name}' is there twice; nothing was unpacked.")
            names.add(member.name)
            total += member.size
    require_space(folder, total, f'unpacking {path}')
    done = 0
    with _damage(path), _opened(path) as unpacked, tarfile.open(fileobj=unpacked, mode='r|') as archive:
        for member in archive:
            target = inside(folder, member.name)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.extractfile(member) as source, target.open('xb') as file:
                shutil.copyfileobj(source, file, _BLOCK_BYTES)
            done += member.size
            if progress is not None:
                progress(done, total)


def is_tar(path: str | Path) -> bool:
    """Whether a file says at its beginning that it is a tar or gzipped."""
    with regular_file(path).open('rb') as file:
        start = file.read(262)
    return start[:2] == _GZIP or start[257:] == b'ustar'


def _opened(path: str | Path) -> BinaryIO:
    """The bytes of a tar."""
    file = regular_file(path).open('rb')
    if file.read(2) == _GZIP:
        file.close()
        return gzip.open(path)
    # gzip knows its end. A tar has two blocks of zeros there, without which tarfile says nothing if it is cut between
    # two members.
    file.seek(-min(_END_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
    if file.read().strip(b'\0') or file.tell() < _END_BYTES:
        file.close()
        raise DataError(f'{path} is damaged, cut short or no tar archive: it does not end as one.')
    file.seek(0)
    return file


def _members(path: str | Path, unpacked: BinaryIO) -> Iterator[tarfile.TarInfo]:
    with tarfile.open(fileobj=unpacked, mode='r|') as archive:
        yield from archive


def _check(path: str | Path, member: tarfile.TarInfo, folder: Path) -> None:
    if not (member.isfile() or member.isdir()):
        raise DataError(f"{path}: member '{member.name}' is a link or a special file; nothing was unpacked.")
    try:
        inside(folder, member.name)
    except DataError as error:
        raise DataError(f"{path}: member '{member.name}' leads out of the folder; nothing was unpacked.") from error


@contextmanager
def _damage(path: str | Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(f'{path} is damaged, cut short or no gzipped tar archive: {error}.') from error
