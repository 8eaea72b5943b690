"""Images into a tree: hard links, symbolic links or copies of files, and copies of what lies in archives."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pyarrow
from pyarrow import parquet

from clear.core.errors import NO_ROOM, DataError
from clear.core.files import inside
from clear.curation.export.joining import Source

HOW = ('hardlink', 'symlink', 'copy')
LIST = 'images.parquet'  # of a shard: which image goes where
SCHEMA = pyarrow.schema([('name', pyarrow.string()), ('path', pyarrow.string()), ('shard', pyarrow.string()),
                         ('offset', pyarrow.int64()), ('bytes', pyarrow.int64()), ('sha256', pyarrow.string())])
_BATCH, _THREADS = 1024, 8


def missing(root: Path, source: Source) -> str:
    """What is wrong with an image as far as can be seen without reading it; empty if nothing."""
    file = inside(root, source.shard or source.path)
    try:
        size = file.stat().st_size
    except OSError as error:
        return f'{file} cannot be read ({error.strerror})'
    if source.shard is None:
        return '' if source.bytes in (None, size) else f'{file} has {size} bytes, not {source.bytes}'
    end = source.offset + source.bytes
    return '' if end <= size else f'{file} ends at byte {size}; {source.path} would end at {end}'


def write_list(file: Path, images: Iterable[tuple[str, Source]]) -> int:
    """Note which image goes to which name of the tree; how many there are."""
    count = 0
    with parquet.ParquetWriter(file, SCHEMA, compression='zstd') as writer:
        for rows in _batched(images):
            columns = zip(*((name, *source) for name, source in rows))
            writer.write_table(pyarrow.table([pyarrow.array(column, field.type)
                                              for column, field in zip(columns, SCHEMA)], SCHEMA))
            count += len(rows)
    return count


def read_list(file: Path) -> Iterator[tuple[str, Source]]:
    """What `write_list` has noted."""
    with parquet.ParquetFile(file) as reader:
        for batch in reader.iter_batches(_BATCH):
            for name, *source in zip(*(batch[name].to_pylist() for name in SCHEMA.names)):
                yield name, Source(*source)


def place_all(root: Path, tree: Path, out: Path, images: Iterable[tuple[str, Source]], how: str) -> None:
    """Put images into a tree in the making.

    Args:
        root: the folder of the stage that made them.
        tree: where they are put.
        out: what the tree will be called, which symbolic links must know.

    Raises:
        DataError: if an image is not there or not what it was, or two have one name.
    """
    folders: set[Path] = set()
    with ThreadPoolExecutor(_THREADS) as pool:
        for rows in _batched(images):
            for folder in {(tree / name).parent for name, _ in rows} - folders:
                folder.mkdir(parents=True, exist_ok=True)
                folders.add(folder)
            list(pool.map(lambda row: place(root, row[1], tree / row[0], out / row[0], how), rows))


def place(root: Path, source: Source, target: Path, name: Path, how: str) -> None:
    """Put one image to `target`, which will be called `name`; see `place_all`."""
    try:
        if source.shard is not None:
            _write(target, _cut_out(root, source))
            return
        file = inside(root, source.path).resolve()
        reason = missing(root, source)
        if reason:
            raise DataError(_gone(reason))
        if how == 'symlink':
            target.symlink_to(os.path.relpath(file, name.parent))
        elif how == 'copy' or not _linked(file, target):
            _write(target, _checked(file.read_bytes(), source, file))
    except FileExistsError as error:
        raise DataError(f'two images would be called {name}.') from error


def _linked(file: Path, target: Path) -> bool:
    """Make a hard link, if the file system allows one."""
    try:
        os.link(file, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        return False
    return True


def _cut_out(root: Path, source: Source) -> bytes:
    """The bytes of an image in an archive."""
    file = inside(root, source.shard)
    try:
        handle = os.open(file, os.O_RDONLY)
    except OSError as error:
        raise DataError(_gone(f'{file} cannot be read ({error.strerror})')) from error
    try:
        content = os.pread(handle, source.bytes, source.offset)
    finally:
        os.close(handle)
    if len(content) != source.bytes:
        raise DataError(_gone(f'{file} ends within {source.path}'))
    return _checked(content, source, file)


def _checked(content: bytes, source: Source, file: Path) -> bytes:
    if source.sha256 is not None and hashlib.sha256(content).hexdigest() != source.sha256:
        raise DataError(_gone(f'{source.path} in {file.parent} is not what was stored (its checksum differs)'))
    return content


def _write(target: Path, content: bytes) -> None:
    with target.open('xb') as file:
        file.write(content)


def copy_or_link(file: Path, target: Path) -> None:
    """A file of ours under another name: a hard link where that is possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not _linked(file, target):
        shutil.copyfile(file, target)


def _gone(reason: str) -> str:
    return (f'{reason}. Was the folder of the images moved, or changed? Say where it is with '
            "inputs=dict(images='...'), or make that stage anew.")


def _batched(images: Iterable[tuple[str, Source]]) -> Iterator[list[tuple[str, Source]]]:
    waiting = iter(images)
    while rows := list(islice(waiting, _BATCH)):
        yield rows
