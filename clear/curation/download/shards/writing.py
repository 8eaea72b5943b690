"""A shard's images as files: one tar in the order of lines, or one file for each image; the same bytes every time."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow
from pyarrow import compute, parquet

from clear.curation.download.shards.ledger import Entry, Ledger
from clear.curation.filters import KEPT

IMAGES, OUTCOMES, TAR, FILES = 'images.parquet', 'outcomes.parquet', 'images.tar', 'files'
MOST_IN_A_FOLDER = 2000
_TEXT, _LONG = pyarrow.string(), pyarrow.int64()
_UTC = pyarrow.timestamp('us', tz='UTC')
SCHEMA = pyarrow.schema([
    ('id', _LONG), ('line', _LONG), ('uploaded_at', _UTC), ('taken_at', pyarrow.timestamp('us')),
    ('taken_at_is_local', pyarrow.bool_()), ('path', _TEXT), ('shard', _TEXT), ('offset', _LONG), ('bytes', _LONG),
    ('width', pyarrow.int32()), ('height', pyarrow.int32()), ('format', _TEXT), ('sha256', _TEXT), ('caption', _TEXT),
    ('source_id', _TEXT)])
OUTCOMES_SCHEMA = pyarrow.schema([('id', _LONG), ('line', _LONG), ('uploaded_at', _UTC), ('outcome', _TEXT),
                                  ('zone', pyarrow.int8())])  # hours from Greenwich, of where it was taken
# Of the records, as they are; a column that is not there is null.
COPIED = ('id', 'line', 'uploaded_at', 'taken_at', 'taken_at_is_local', 'caption', 'source_id')
# Of a file with no name and no size; the sum of the header is blanked.
_HEADER = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)[:512]
_HEADER = _HEADER[:148] + bytes(8) + _HEADER[156:]
_EXTENSIONS = dict(jpeg='jpg', mpo='jpg', tiff='tif', jpeg2000='jp2')


class Place(NamedTuple):
    """Where an image was put; `shard` and `offset` are None for a file of its own."""

    path: str
    shard: str | None
    offset: int | None


def write_shard(folder: Path, home: str, store: str, records: pyarrow.Table, outcomes: np.ndarray,
                ledger: Ledger) -> None:
    """Write images, their table and every record's outcome, in the order of the records.

    Args:
        folder: where the files go.
        home: what the folder will be called in the stage's folder, as in `shards/000003`.
        store: 'tar' or 'files'.
        records: (N,) with at least the columns of `COPIED`, and `lon`.
        outcomes: (N,) text; those that are 'ok' are in the ledger.
    """
    rows = np.flatnonzero(outcomes == KEPT)
    entries = [ledger.entries[int(row)] for row in rows]
    kept = records.select(COPIED).take(pyarrow.array(rows, _LONG))
    put = _tar if store == 'tar' else _files
    places = list(put(folder, home, kept, entries, ledger))
    columns = {name: kept[name] for name in COPIED}
    columns |= {name: [getattr(place, name) for place in places] for name in Place._fields}
    columns |= {name: [getattr(entry, name) for entry in entries]
                for name in ('bytes', 'width', 'height', 'format', 'sha256')}
    images = pyarrow.table([_column(columns[each.name], each.type) for each in SCHEMA], SCHEMA)
    parquet.write_table(images, folder / IMAGES, compression='zstd')
    zone = compute.round(compute.divide(records['lon'].cast(pyarrow.float64()), 15.0)).cast(pyarrow.int8(), safe=False)
    said = pyarrow.table([*(records[name] for name in ('id', 'line', 'uploaded_at')),
                          pyarrow.array(outcomes.tolist(), _TEXT), zone], OUTCOMES_SCHEMA)
    parquet.write_table(said, folder / OUTCOMES, compression='zstd')


def _column(values: list | pyarrow.ChunkedArray, kind: pyarrow.DataType) -> pyarrow.Array | pyarrow.ChunkedArray:
    return pyarrow.array(values, kind) if isinstance(values, list) else values.cast(kind)


def _named(kept: pyarrow.Table, entries: list[Entry]) -> Iterator[tuple[str, str, str | None, Entry]]:
    """Id, name, caption and entry of each image."""
    for key, caption, entry in zip(kept['id'].to_pylist(), kept['caption'].to_pylist(), entries):
        yield str(key), f'{key}.{extension(entry.format)}', caption, entry


def _tar(folder: Path, home: str, kept: pyarrow.Table, entries: list[Entry], ledger: Ledger) -> Iterator[Place]:
    with (folder / TAR).open('wb') as file:
        for key, name, caption, entry in _named(kept, entries):
            yield Place(name, f'{home}/{TAR}', _add(file, name, ledger.body(entry)))
            if caption is not None:
                _add(file, f'{key}.txt', caption.encode())
        file.write(bytes(2 * tarfile.BLOCKSIZE))


def _add(file: BinaryIO, name: str, content: bytes) -> int:
    """Append a file to a tar; where its content begins. Headers tell no time and no owner."""
    file.write(_tar_header(name.encode(), len(content)))
    offset = file.tell()
    file.write(content)
    file.write(bytes(-len(content) % tarfile.BLOCKSIZE))
    return offset


def _tar_header(name: bytes, size: int) -> bytes:
    """The block before a file in a ustar archive, as `tarfile` makes it; that takes twenty times as long.

    Args:
        name: of at most 100 bytes.
        size: below 8 GiB.
    """
    header = bytearray(_HEADER)
    header[:len(name)] = name
    header[124:136] = b'%011o\0' % size
    header[148:155] = b'%06o\0' % (sum(header) + 8 * 32)  # the sum itself counts as eight blanks
    header[155] = 32
    return bytes(header)


def _files(folder: Path, home: str, kept: pyarrow.Table, entries: list[Entry], ledger: Ledger) -> Iterator[Place]:
    for place, (_, name, _, entry) in enumerate(_named(kept, entries)):
        part = f'{FILES}/{place // MOST_IN_A_FOLDER:04d}'
        if place % MOST_IN_A_FOLDER == 0:
            (folder / part).mkdir(parents=True)
        (folder / part / name).write_bytes(ledger.body(entry))
        yield Place(f'{home}/{part}/{name}', None, None)


def extension(kind: str) -> str:
    """Of a file of a format, whatever the record calls it."""
    return _EXTENSIONS.get(kind, kind)
