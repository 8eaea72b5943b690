"""Zip archives from outside: checked before use, unpacked without leaving their folder."""

from __future__ import annotations

import lzma
import posixpath
import stat
import struct
import zipfile
import zlib
from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import require_space, sha256_of
from clear.core.logs import Report

# What zipfile raises on bytes that are no sound archive; RuntimeError for encrypted members.
ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError,
               LookupError, OverflowError, struct.error)
_BLOCK_BYTES = 1 << 20


def verify_archive(path: str | Path, sha256: str | None = None) -> str:
    """Check the SHA-256, if one is given, and size and CRC of every member; returns the SHA-256.

    Raises:
        DataError: if the hash differs, or the file is no zip archive or a damaged one.
    """
    found = sha256_of(path)
    if sha256 is not None and found != sha256.lower():
        raise DataError(f'{path} has SHA-256 {found}, expected {sha256.lower()}.')
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = next(filter(None, (_damage(archive, member) for member in archive.infolist())), None)
    except (*ZIP_DAMAGE, OSError) as error:
        raise DataError(f'{path} is damaged or no zip archive: {error}.') from error
    if damaged is not None:
        raise DataError(f'{path} is damaged: {damaged}.')
    return found


def _damage(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str | None:
    """What is wrong with a member's bytes. zipfile compares the CRC when the last one is read, but never the size."""
    if not member.filename.strip('/'):
        return 'it has a member without a name'
    size = 0
    try:
        with archive.open(member) as file:
            while block := file.read(_BLOCK_BYTES):
                size += len(block)
    except zipfile.BadZipFile:
        return f"the checksum of its member '{member.filename}' does not match"
    if size != member.file_size:
        return f"its member '{member.filename}' has {size} bytes, not the {member.file_size} it says"
    return None


def extract_archive(path: str | Path, folder: str | Path, progress: Report | None = None) -> None:
    """Unpack a zip archive into an existing folder. All members are checked before the first is written.

    Args:
        progress: called as `progress(done, total)` with unpacked bytes.

    Raises:
        DataError: if a member would leave `folder`, is a link or a special file, if the archive is damaged, or if
            the disk has too little room.
    """
    folder = Path(folder)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for member in members:
                if (reason := unsafe_member(member)) is not None:
                    raise DataError(f'{path}: {reason}; nothing was unpacked.')
            total = sum(member.file_size for member in members)
            require_space(folder, total, f'unpacking {path}')
            done = 0
            for member in members:
                archive.extract(member, folder)
                done += member.file_size
                if progress is not None:
                    progress(done, total)
    except ZIP_DAMAGE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f'{path} is damaged or no zip archive: {error}.') from error
    except OSError as error:
        raise DataError(f'{path} could not be unpacked into {folder}: {error}.') from error


def unsafe_member(member: zipfile.ZipInfo) -> str | None:
    """Why a member may not be unpacked or read; None if it may."""
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 when the archive was made without Unix modes
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return f"member '{member.filename}' is a link or a special file"
    return unsafe_name(member.filename)


def unsafe_name(name: str) -> str | None:
    """Why a member may not be called so; None if it may."""
    if not name.strip('/'):
        return 'a member has no name'
    # Backslashes and drive letters separate folders on Windows, so they may hide a way out of the folder.
    if '\\' in name or ':' in name.partition('/')[0]:
        return f"member '{name}' has a path of another system"
    if '\0' in name or name.startswith('/') or '..' in name and posixpath.normpath(name).split('/')[0] == '..':
        return f"member '{name}' leads out of the folder"
    return None
