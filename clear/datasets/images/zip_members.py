"""Images inside zip archives, read where they lie.

The directory of an archive is read once, by the process that makes the table. What it says of each image goes along in
columns, so that a worker reads an image by its place alone: two reads at fixed places of a file, which threads and
forked processes may share, however many members the archive has.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow

from clear.core.errors import DataError
from clear.core.files import inside, regular_file
from clear.datasets.columns import encoded_texts, packed, unpacked
from clear.datasets.images.contents import ImageContents
from clear.datasets.images.decode import MAX_BYTES, UnreadableImage
from clear.datasets.make.archives import ZIP_DAMAGE, unsafe_member, unsafe_name
from clear.datasets.shards.files import ShardFiles
from clear.datasets.table import ImageTable

# Where a member lies; all null for an image that is a file, `header` alone for one that its archive does not hold.
MEMBER_COLUMNS = ('archive', 'header', 'packed_bytes', 'unpacked_bytes', 'method', 'crc')
_HEADER = struct.Struct('<4s22xHH')  # signature, lengths of name and extra field
_SIGNATURE = b'PK\x03\x04'
_ENCRYPTED, _ABSENT = -1, -2
_NOWHERE = (None,) * 5
_MOST = 2**62


def split_member(path: str) -> tuple[str | None, str]:
    """(archive, member) of `archive.zip@inner/name`; (None, path) of a file."""
    end = path.lower().find('.zip@')
    return (path[:end + 4], path[end + 5:]) if end > 0 else (None, path)


def member_columns(root: Path, paths: Sequence[str]) -> dict[str, pyarrow.Array]:
    """The columns of `MEMBER_COLUMNS` for images below `root`. Reads the directory of every archive that is named.

    Raises:
        DataError: if an archive is missing or damaged, it or a member leads out of the root, or a member is a link.
    """
    directories: dict[str, dict[str, zipfile.ZipInfo]] = {}
    archives: list[str | None] = []
    places: list[tuple[int | None, ...]] = []
    for path in paths:
        archive, name = split_member(path)
        archives.append(archive)
        if archive is None:
            places.append(_NOWHERE)
            continue
        if archive not in directories:
            directories[archive] = _directory(inside(root, archive))
        # Without a mark an archive's names are taken for code page 437, though most are UTF-8.
        found = directories[archive].get(name) or directories[archive].get(name.encode().decode('cp437'))
        if found is None and (reason := unsafe_name(name)) is not None:
            raise DataError(f'{root / archive}: {reason}; nothing was read.')
        places.append(_NOWHERE if found is None else _place_of(found))
    columns = {name: pyarrow.array(values, pyarrow.int64())
               for name, values in zip(MEMBER_COLUMNS[1:], list(zip(*places)) or [()] * 5)}
    return {'archive': pyarrow.array(archives, pyarrow.string()).dictionary_encode(), **columns}


def _place_of(member: zipfile.ZipInfo) -> tuple[int, ...]:
    # A damaged archive may say any number of 64 bits; what is too large for a column is refused when it is read.
    return (min(member.header_offset, _MOST), min(member.compress_size, _MOST), min(member.file_size, _MOST),
            _ENCRYPTED if member.flag_bits & 1 else member.compress_type, member.CRC)


def _directory(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Name -> entry of every member of an archive, none of which may lead out of a folder."""
    try:
        with zipfile.ZipFile(regular_file(path)) as archive:
            members = archive.infolist()
    except ZIP_DAMAGE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f'{path} is damaged or no zip archive: {error}. Get it again.') from error
    except OSError as error:
        raise DataError(f'{path} cannot be read: {error.strerror or error}.') from error
    for member in members:
        if (reason := unsafe_member(member)) is not None:
            raise DataError(f'{path}: {reason}; nothing was read.')
    return {member.filename: member for member in members}


class ZipContents(ImageContents):
    """The contents of images of which some, or all, are members of zip archives below the root.

    Args:
        members: `MEMBER_COLUMNS`, a row for each image.
    """

    def __init__(self, root: str | Path, members: pyarrow.Table):
        super().__init__(root)
        self._members = members
        self._archives = ShardFiles(self.root)
        archive = encoded_texts(members['archive'])
        self._names = [*archive.dictionary.to_pylist(), None]  # -1 is the last: no archive
        codes = archive.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        # Of Arrow's columns a row would take longer than its two reads.
        self._rows = [codes, *(members[name].fill_null(_ABSENT).to_numpy() for name in MEMBER_COLUMNS[1:])]

    def __getstate__(self) -> dict[str, object]:
        return dict(root=self.root, members=packed(self._members))

    def __setstate__(self, state: dict) -> None:
        self.__init__(state['root'], unpacked(state['members']))

    def read(self, row: int, path: str) -> bytes:
        """The content of an image, unpacked, and checked by the sum that the archive holds.

        Raises:
            UnreadableImage: with the reason.
            DataError: if it lies outside the root.
        """
        archive, header, packed_bytes, unpacked_bytes, method, crc = self._place(row)
        if archive is None:
            return super().read(row, path)
        if method == _ABSENT:
            raise UnreadableImage(f'{archive} has no such member')
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnreadableImage('the member is encrypted' if method == _ENCRYPTED else
                                  f'the member is packed by method {method}; stored and deflated ones are read')
        if unpacked_bytes > MAX_BYTES:
            raise UnreadableImage(f'{unpacked_bytes} bytes, more than {MAX_BYTES}')
        signature, name_bytes, extra_bytes = _HEADER.unpack(self._archives.read(archive, header, _HEADER.size))
        if signature != _SIGNATURE:
            raise UnreadableImage(f'{archive} has no member where its directory says')
        content = self._archives.read(archive, header + _HEADER.size + name_bytes + extra_bytes, packed_bytes)
        if method == zipfile.ZIP_DEFLATED:
            try:
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, unpacked_bytes + 1)
            except zlib.error as error:
                raise UnreadableImage(f'the member is damaged: {error}') from error
        if len(content) != unpacked_bytes or zlib.crc32(content) != crc:
            raise UnreadableImage('the member is damaged: its checksum or size does not match')
        return content

    def sizes(self, paths: Iterable[str]) -> Sequence[int] | np.ndarray:
        """Unpacked bytes of each image, in order, as the archives say; -1 where there is none."""
        sizes = self._members['unpacked_bytes'].fill_null(-1).to_numpy().copy()
        alone = self._members['archive'].is_null().to_numpy()
        if alone.any():
            sizes[alone] = super().sizes(path for path, is_file in zip(paths, alone) if is_file)
        return sizes

    def expect(self, rows: Iterable[int]) -> None:
        """As of shards: all of a batch at once."""
        for archive, header, packed_bytes, _, method, _ in map(self._place, map(int, rows)):
            if archive is not None and method != _ABSENT:
                self._archives.expect(archive, header, packed_bytes + _HEADER.size)

    def _place(self, row: int) -> tuple[str | None, int, int, int, int, int]:
        """Archive, header, packed and unpacked bytes, method and checksum."""
        code, *numbers = (int(column[row]) for column in self._rows)
        return self._names[code], *numbers


class ZippedImages(ImageTable):
    """Images of which some, or all, are members of zip archives: paths `archive.zip@inner/name`."""

    @property
    def are_stored(self) -> bool:
        return False  # a deflated member is not the part of a file that would be an image

    @cached_property
    def contents(self) -> ZipContents:
        return ZipContents(self.root, self.table.select(MEMBER_COLUMNS))

    def content(self, row: int) -> bytes:
        return self.contents.read(row, self.text('path', row))
