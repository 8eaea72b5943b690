"""What a tar shard holds: found once by a pass over its headers, kept in a file beside it, mapped from then on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import pyarrow
from pyarrow import compute, ipc

from clear.core.errors import DataError, WriteError
from clear.core.files import atomic_writer, parse_json, regular_file
from clear.datasets.readers.dates import parse_time

FORMAT = 1
SUFFIX = '.index'
SCHEMA = pyarrow.schema([('key', pyarrow.string()), ('offset', pyarrow.int64()), ('size', pyarrow.int64()),
                         ('caption', pyarrow.list_(pyarrow.string())), ('label', pyarrow.int32()),
                         ('taken_at', pyarrow.timestamp('us', tz='UTC'))])
_MAX_TEXT_BYTES = 1 << 20  # of a caption
_META = re.compile('__[^/]*__($|/)')  # what webdataset leaves out, too
_NOTE = b'clear'
_BLOCK = tarfile.BLOCKSIZE

# Where the content of a file lies in its shard, how long it is, and what it is where it is text.
Place: TypeAlias = tuple[int, int, bytes]


@dataclass(frozen=True)
class Fields:
    """What the files of a key are called: the part of the name behind the first dot, the first that is there.

    Attributes:
        image, caption: one of each is needed. What ends in `json` is a text or a list of texts. No names for captions:
            none are read, and a label is needed instead.
        label: a whole number, -1 = none.
        time: a date as `parse_time` understands it.
    """

    image: tuple[str, ...] = ('jpg', 'jpeg', 'png', 'webp')
    caption: tuple[str, ...] = ('txt', 'captions.json')
    label: tuple[str, ...] = ('cls',)
    time: tuple[str, ...] = ('time',)

    def first(self, field: str, sample: dict[str, Place]) -> str | None:
        """The name under which a sample has a field."""
        return next((name for name in getattr(self, field) if name in sample), None)


def index_file(shard: Path, folder: Path | None = None) -> Path:
    """Where the index of a shard lies: beside it, or in a folder that shards of several folders may share."""
    if folder is None:
        return shard.parent / f'{shard.name}{SUFFIX}'
    home = hashlib.sha256(os.fsencode(shard.absolute().parent)).hexdigest()[:12]
    return folder / f'{shard.name}.{home}{SUFFIX}'


def open_index(shard: Path, fields: Fields, folder: Path | None = None) -> pyarrow.Table | None:
    """The index of a shard, with the columns of `SCHEMA`, mapped; None if there is none of this file and these fields.

    Raises:
        DataError: if there is no such shard.
    """
    path = index_file(shard, folder)
    note = _note(shard, fields)
    try:
        found = ipc.open_file(pyarrow.memory_map(str(path))).read_all()
        known = json.loads((found.schema.metadata or {}).get(_NOTE, b'null'))
        if known != note or not found.schema.equals(SCHEMA):
            return None
        found.validate()
        ends = compute.min_max(compute.add(found['offset'], found['size'])).as_py()['max']
        starts = compute.min_max(found['offset']).as_py()['min']
    except (OSError, ValueError, pyarrow.ArrowException):
        return None
    return found if not len(found) or starts >= 0 and ends <= note['bytes'] else None


def make_index(shard: Path, fields: Fields, folder: Path | None = None) -> None:
    """Look through a shard and write its index; every header and every text is read, and no image.

    Raises:
        DataError: naming the shard and the key, if it is no tar or is cut short, files of a key do not lie together or
            are there twice, or half of a pair is missing or makes no sense.
        WriteError: if the index cannot be written.
    """
    table = scan(shard, fields)
    table = table.replace_schema_metadata({_NOTE: json.dumps(_note(shard, fields)).encode()})
    try:
        with atomic_writer(index_file(shard, folder)) as file, ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    except WriteError as error:
        raise WriteError(f'{error} An index needs a place: index_dir names another folder.') from error


def scan(shard: Path, fields: Fields) -> pyarrow.Table:
    """The pairs of a shard in their order, with the columns of `SCHEMA`.

    Raises:
        DataError: as `make_index` does.
    """
    rows: dict[str, list] = {name: [] for name in SCHEMA.names}
    lacking: list[str] = []
    seen: set[str] = set()
    needed = 'caption' if fields.caption else 'label'
    for key, sample in _samples(shard, fields):
        if key in seen:
            raise DataError(f"{shard}: the files of '{key}' do not lie together. Write the shard with all files of a "
                            'key one after another.')
        seen.add(key)
        image, text = fields.first('image', sample), fields.first(needed, sample)
        if image is None or text is None:
            lacking.append(f"'{key}' has {'an image' if image else f'a {needed}' if text else 'neither'}"
                           f"{f' but no {needed}' if image else ' but no image' if text else ''}")
            continue
        offset, size, _ = sample[image]
        if size == 0:
            raise DataError(f"{shard}: '{key}.{image}' is empty.")
        label, time = fields.first('label', sample), fields.first('time', sample)
        where = f"{shard}: '{key}"
        row = (key, offset, size, _captions(text, sample[text][2], where) if fields.caption else None,
               -1 if label is None else _label(sample[label][2], f"{where}.{label}'"),
               None if time is None else _time(sample[time][2], f"{where}.{time}'"))
        for column, value in zip(rows.values(), row):
            column.append(value)
    if lacking:
        raise DataError(f'{shard}: {lacking[0]}; {len(lacking)} of {len(seen)} keys are no pairs. Looked for '
                        f'{" or ".join(fields.image)}, and {" or ".join(getattr(fields, needed))}.')
    try:
        return pyarrow.table(rows, SCHEMA)
    except UnicodeEncodeError as error:
        raise DataError(f'{shard}: a name is not UTF-8: {error.object!r}.') from error


def _samples(shard: Path, fields: Fields) -> Iterator[tuple[str, dict[str, Place]]]:
    """The files of each key by their extensions in lower case, grouped as webdataset groups what it reads."""
    from webdataset.tariterators import group_by_keys

    last = ''

    def watched() -> Iterator[dict]:
        nonlocal last
        for name, place in _files(shard, fields):
            last = name
            yield dict(fname=name, data=place, __url__='')

    try:
        for sample in group_by_keys(watched()):
            yield sample['__key__'], {name: place for name, place in sample.items() if not name.startswith('__')}
    except DataError:  # a ValueError, too
        raise
    except ValueError as error:
        raise DataError(f"{shard}: '{last}' is there twice.") from error


def _files(shard: Path, fields: Fields) -> Iterator[tuple[str, Place]]:
    from webdataset.tariterators import base_plus_ext

    texts = {*fields.caption, *fields.label, *fields.time}
    name = None
    try:
        with regular_file(shard).open('rb') as file, tarfile.open(fileobj=file, mode='r:') as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # it would keep them all
                name = member.name
                if not member.isreg() or _META.match(name):
                    continue
                if member.issparse():
                    raise DataError(f"{shard}: '{name}' is stored as a sparse file, which has no content in one piece.")
                content = b''
                if (base_plus_ext(name)[1] or '').lower() in texts:
                    if member.size > _MAX_TEXT_BYTES:
                        raise DataError(f"{shard}: '{name}' is a text of {member.size:,} bytes, more than "
                                        f'{_MAX_TEXT_BYTES:,}.')
                    content = os.pread(file.fileno(), member.size, member.offset_data)
                yield name, (member.offset_data, member.size, content)
            # Python's tarfile, and webdataset with it, takes a file that ends behind any member for a whole one.
            if os.pread(file.fileno(), _BLOCK, tar.offset) != bytes(_BLOCK):
                raise _cut_short(shard, name)
    except tarfile.ReadError as error:
        if name is None:
            raise DataError(f'{shard} is no tar file, or a compressed one, of which no part can be read by itself: '
                            f'{error}.') from error
        raise _cut_short(shard, name) from error
    except tarfile.TarError as error:
        raise DataError(f"{shard}: damaged behind '{name}': {error}.") from error
    except OSError as error:
        raise DataError(f'{shard} cannot be read: {error.strerror or error}.') from error


def _cut_short(shard: Path, name: str | None) -> DataError:
    place = f"in or behind '{name}'" if name else 'at its beginning'
    return DataError(f'{shard} is cut short or damaged {place}: {shard.stat().st_size:,} bytes, and no empty block at '
                     'their end. Copy or write it again.')


def _captions(name: str, content: bytes, where: str) -> list[str]:
    file = f"{where}.{name}'"
    try:
        found: object = content.decode('utf-8')
    except UnicodeDecodeError as error:
        raise DataError(f'{file} is no text in UTF-8: {error.reason} at byte {error.start}.') from error
    if name.endswith('json'):
        found = parse_json(found, file)
    captions = found if isinstance(found, list) else [found]
    if not captions or not all(isinstance(each, str) and each.strip() for each in captions):
        raise DataError(f'{file} holds an empty caption, or none.' if isinstance(found, (str, list)) else
                        f'{file} holds {type(found).__name__}, expected a text or a list of texts.')
    return captions


def _label(content: bytes, where: str) -> int:
    try:
        label = int(content)
    except ValueError:
        label = -2
    if not -1 <= label < 2**31:
        raise DataError(f'{where} is {content[:40]!r}; expected the number of a class, or -1 for none.')
    return label


def _time(content: bytes, where: str) -> datetime | None:
    try:
        return parse_time(content.decode('ascii', 'replace'))
    except (ValueError, OverflowError) as error:
        raise DataError(f'{where}: {error}') from error


def _note(shard: Path, fields: Fields) -> dict[str, object]:
    """What an index is of."""
    status = regular_file(shard).stat()
    named: dict[str, Sequence[str]] = {field: list(names) for field, names in asdict(fields).items()}
    return dict(format=FORMAT, name=shard.name, bytes=status.st_size, mtime_ns=status.st_mtime_ns, **named)
