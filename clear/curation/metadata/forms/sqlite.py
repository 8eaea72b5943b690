"""Metadata as the published SQLite table: 23 named columns, read by rowid, never as a whole."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from clear.core.errors import DataError, nearest
from clear.core.files import regular_file
from clear.curation.metadata.forms.base import TOO_LONG, Form, Range, Rows, Survey
from clear.curation.metadata.forms.values import Value, check_columns, column
from clear.curation.metadata.records import COLUMNS
from clear.curation.metadata.streams import MAX_LINE_BYTES

if TYPE_CHECKING:
    from clear.core.types import Plain

TABLE = 'yfcc100m_dataset'
_MAGIC = b'SQLite format 3\0'
_BLOCK_BYTES, _BLOCK_ROWS = 8 << 20, 8192
_MAX_CELL_BYTES = 64 << 20


def is_sqlite(path: Path) -> bool:
    """Whether a file begins as SQLite's databases do.

    Raises:
        DataError: if it is no regular file.
    """
    with regular_file(path).open('rb') as file:
        return file.read(len(_MAGIC)) == _MAGIC


class SqliteTable(Form):
    """The table `yfcc100m_dataset`, in the order of its rowids.

    The file is opened to be read only, and nothing that it says is run: no view, no trigger, no function of a schema
    that is not trusted, no extension.
    """

    NAME = 'sqlite'

    def __init__(self, path: Path):
        super().__init__(path)
        with self._reading():
            self._database = sqlite3.connect(f'file:{quote(str(path.resolve()))}?mode=ro', uri=True)
            self._database.text_factory = bytes
            self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_CELL_BYTES)
            for pragma in ('trusted_schema = OFF', 'query_only = ON', 'cell_size_check = ON', 'mmap_size = 0'):
                self._database.execute(f'PRAGMA {pragma}')

    def close(self) -> None:
        self._database.close()

    def check(self) -> None:
        with self._reading():
            tables = {name.decode(): (kind, sql or b'') for name, kind, sql in
                      self._database.execute('SELECT name, type, sql FROM sqlite_master')}
            kind, made_by = tables.get(TABLE, (b'', b''))
            if not kind:
                near = nearest(TABLE, tables)
                hint = f'Did you mean to call {near} so?' if near else f'It has {", ".join(tables) or "none"}.'
                raise DataError(f"{self.path} has no table '{TABLE}'. {hint}")
            if kind != b'table' or made_by.split()[:2] == [b'CREATE', b'VIRTUAL']:
                raise DataError(f"{self.path}: '{TABLE}' is no plain table.")
            found = [row[1].decode() for row in self._database.execute(f'PRAGMA table_info({TABLE})')]
            check_columns(self.path, found, COLUMNS)
            if self._database.execute(f'SELECT _rowid_ FROM {TABLE} LIMIT 1').fetchone() is None:
                raise DataError(f"{self.path}: table '{TABLE}' has no rows.")

    def traits(self) -> Mapping[str, Plain]:
        return {}

    def survey(self, interval: int) -> Survey:
        with self._reading():
            marks, count, last = [], 0, 0
            # From mark to mark by the tree itself: no row is taken out in between.
            first, step = f'SELECT min(_rowid_), max(_rowid_) FROM {TABLE}', (
                f'SELECT _rowid_ FROM {TABLE} WHERE _rowid_ >= ? ORDER BY _rowid_ LIMIT 1 OFFSET {interval}')
            place, last = self._database.execute(first).fetchone()
            while place is not None:
                marks.append(place)
                found = self._database.execute(step, (place,)).fetchone()
                place = found[0] if found else None
            count, = self._database.execute(f'SELECT count(*) FROM {TABLE} WHERE _rowid_ >= ?', (marks[-1],)).fetchone()
        with self.path.open('rb') as file:
            digest = hashlib.file_digest(file, 'sha256').hexdigest()
        return Survey((len(marks) - 1) * interval + count, digest, marks, last + 1)

    def rows(self, wanted: Range | None = None, names: Collection[str] | None = None) -> Iterator[Rows]:
        query, bounds = f'SELECT {", ".join(COLUMNS)} FROM {TABLE}', ()  # all, to see which rows are too long
        if wanted is not None:
            query, bounds = f'{query} WHERE _rowid_ >= ? AND _rowid_ < ?', (wanted.place, wanted.end)
        number = wanted.first if wanted is not None else 0
        with self._reading(), contextlib.closing(self._database.execute(f'{query} ORDER BY _rowid_', bounds)) as found:
            for block in _blocks(found):
                lines = np.arange(number, number + len(block))
                number += len(block)
                yield _rows_of(block, names or COLUMNS, lines)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise DataError(f'{self.path} cannot be read as an SQLite database ({error}). Fetch it again.') from error


def _blocks(found: sqlite3.Cursor) -> Iterator[list[Sequence[Value]]]:
    """Rows of a cursor, as many at a time as fit into some megabytes."""
    block, size = [], 0
    for row in found:
        block.append(row)
        size += _size(row)
        if size > _BLOCK_BYTES or len(block) == _BLOCK_ROWS:
            yield block
            block, size = [], 0
    if block:
        yield block


def _size(row: Sequence[Value]) -> int:
    return sum(len(value) for value in row if type(value) is bytes)


def _rows_of(block: list[Sequence[Value]], names: Collection[str], lines: np.ndarray) -> Rows:
    is_long = np.array([_size(row) > MAX_LINE_BYTES for row in block])
    kept = [row for row, is_out in zip(block, is_long) if not is_out] if is_long.any() else block
    found = dict(zip(COLUMNS, list(zip(*kept)) or [()] * len(COLUMNS)))
    return Rows({name: column(found[name]) for name in names}, lines[~is_long],
                dict.fromkeys(lines[is_long].tolist(), TOO_LONG))
