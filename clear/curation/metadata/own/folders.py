"""The photos of a folder in a fixed order, a range of them at a time: no list of all files is ever held."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow

from clear.core.errors import DataError
from clear.curation.queries import querying
from clear.datasets.readers.image_files import IMAGE_SUFFIXES, existing_folder, is_hidden

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LEADS_OUT, LEADS_NOWHERE, NOT_REGULAR = 'link leads out of the root', 'link leads nowhere', 'no regular file'
_BATCH = 10_000
_SUFFIXES = tuple(map(str.encode, IMAGE_SUFFIXES))
_SCHEMA = pyarrow.schema([('path', pyarrow.binary()), ('size', pyarrow.int64()), ('mtime', pyarrow.int64()),
                          ('problem', pyarrow.string())])


class Photo(NamedTuple):
    """A file that is called like an image.

    Attributes:
        path: below the root, as bytes, which order photos.
        size: in bytes.
        mtime: microseconds since 1970.
        problem: why it is not to be opened; '' = it may be.
    """

    path: bytes
    size: int
    mtime: int
    problem: str = ''


class Span(NamedTuple):
    """Photos that follow each other.

    Attributes:
        first: number of the first.
        rows: how many.
        start, stop: paths of the first, and of the one behind the last; '' = at the end.
        digest: of their paths and sizes, and of their mtimes where these matter.
    """

    first: int
    rows: int
    start: str
    stop: str
    digest: str


class PhotoTree:
    """The image files below a root, at any depth, without hidden ones; links to folders are not followed.

    Attributes:
        passed_over: files so far that are not called like an image.

    Args:
        root: the folder.
        uses_mtime: whether a file that was only touched is another one.

    Raises:
        DataError: if it is no folder.
    """

    def __init__(self, root: Path, uses_mtime: bool):
        self.root, self.uses_mtime, self.passed_over = existing_folder(root), uses_mtime, 0

    def photos(self, start: bytes = b'', stop: bytes = b'') -> Iterator[Photo]:
        """Photos from `start` to before `stop`, in the order of the disk."""
        todo = [b'']
        while todo:
            folder = todo.pop()
            try:
                with os.scandir(os.fsencode(self.root) + b'/' + folder) as entries:
                    for entry in entries:
                        path = folder + entry.name
                        if is_hidden(os.fsdecode(entry.name)):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            # All that is below begins with the path and a '/'.
                            if path + b'0' > start and (not stop or path + b'/' < stop):
                                todo.append(path + b'/')
                        elif path >= start and (not stop or path < stop):
                            if entry.name.lower().endswith(_SUFFIXES):
                                yield self._photo(entry, path)
                            else:
                                self.passed_over += 1
            except OSError as error:
                raise DataError(f'{error.filename!s} cannot be read: {error.strerror}.') from error

    def spans(self, interval: int, folder: Path) -> Iterator[Span]:
        """All photos in order, cut into spans of `interval`.

        Args:
            folder: for what has to be sorted on the disk.
        """
        with querying(folder) as connection:
            connection.execute('CREATE TABLE photos (path BLOB, size BIGINT, mtime BIGINT, problem VARCHAR)')
            batch: list[Photo] = []
            for photo in self.photos():
                batch.append(photo)
                if len(batch) == _BATCH:
                    _insert(connection, batch)
                    batch.clear()
            _insert(connection, batch)
            found = connection.sql('FROM photos ORDER BY path').to_arrow_reader(_BATCH)
            first, rows, start, digest = 0, 0, b'', hashlib.sha256()
            for photo in (Photo(*row.values()) for block in found for row in block.to_pylist()):
                if rows == interval:
                    yield Span(first, rows, _told(start), _told(photo.path), digest.hexdigest())
                    first, rows, digest = first + rows, 0, hashlib.sha256()
                if not rows:
                    start = photo.path
                self._add(digest, photo)
                rows += 1
            if rows:
                yield Span(first, rows, _told(start), '', digest.hexdigest())

    def of(self, span: Span) -> list[Photo]:
        """The photos of a span in order.

        Raises:
            DataError: if they are not those that were there when the folder was cut.
        """
        found = sorted(self.photos(os.fsencode(span.start), os.fsencode(span.stop)))
        digest = hashlib.sha256()
        for photo in found:
            self._add(digest, photo)
        if digest.hexdigest() != span.digest:
            raise DataError(f"{self.root} has changed since the stage was planned, from '{span.start}' on. Make the "
                            'stage anew with --overwrite.')
        return found

    def _photo(self, entry: os.DirEntry[bytes], path: bytes) -> Photo:
        problem, status = '', entry.stat(follow_symlinks=False)
        if entry.is_symlink():
            real = Path(os.fsdecode(entry.path)).resolve()
            if not real.is_relative_to(self.root):
                problem = LEADS_OUT
            elif not real.exists():
                problem = LEADS_NOWHERE
            else:
                status = real.stat()
        if not problem and not stat.S_ISREG(status.st_mode):
            problem = NOT_REGULAR
        return Photo(path, status.st_size, status.st_mtime_ns // 1000, problem)

    def _add(self, digest: hashlib._Hash, photo: Photo) -> None:
        digest.update(repr(photo if self.uses_mtime else photo._replace(mtime=0)).encode())


def _insert(connection: DuckDBPyConnection, photos: list[Photo]) -> None:
    if photos:
        block = pyarrow.table(list(map(list, zip(*photos))), _SCHEMA)
        connection.register('block', block)
        connection.execute('INSERT INTO photos SELECT * FROM block')
        connection.unregister('block')


def _told(path: bytes) -> str:
    return os.fsdecode(path)
