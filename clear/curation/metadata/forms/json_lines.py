"""Metadata as lines of JSON, plain, gzip or bzip2: an object for each photo, with the names of the SQLite table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pyarrow import compute

from clear.core.errors import DataError, printable
from clear.core.files import parse_json
from clear.curation.metadata import cells
from clear.curation.metadata.forms.base import TOO_LONG, Form, Range, Rows, Survey
from clear.curation.metadata.forms.values import check_columns, column
from clear.curation.metadata.records import COLUMNS
from clear.curation.metadata.streams import Block, LineFile

if TYPE_CHECKING:
    from clear.core.types import Plain

NO_OBJECT = 'no JSON object'
_HASH = 'key'
_BOM = b'\xef\xbb\xbf'


class JsonLines(Form):
    """The first line must have all columns; a later one may leave out what it has no value for, and `key`, the hash."""

    NAME = 'json'

    def __init__(self, path: Path):
        super().__init__(path)
        self._file = LineFile(path)

    def close(self) -> None:
        self._file.close()

    @property
    def is_sequential(self) -> bool:
        return self._file.is_packed

    def check(self) -> None:
        line = self._file.first_line()
        found = _object(line)
        if found is None:
            text = printable(line[:60].decode('utf-8', 'replace'))
            raise DataError(f"{self.path}: its first line '{text}…' is no JSON object.")
        check_columns(self.path, found, COLUMNS)

    def traits(self) -> Mapping[str, Plain]:
        return {}

    def survey(self, interval: int) -> Survey:
        found = self._file.survey(interval)
        return Survey(found.lines, found.sha256, found.marks, found.bytes)

    def rows(self, wanted: Range | None = None, names: Collection[str] | None = None) -> Iterator[Rows]:
        for block in self._file.blocks(*(wanted or Range(0, 0, None))):
            yield _rows_of(block, names)


def _rows_of(block: Block, names: Collection[str] | None) -> Rows:
    objects, lines, rejected = [], [], dict.fromkeys(block.too_long, TOO_LONG)
    for number, line in zip(block.numbers.tolist(), block.data.split(b'\n')):
        found = _object(line)
        if found is None:
            rejected[number] = NO_OBJECT
        else:
            objects.append(found)
            lines.append(number)
    columns = {name: column([each.get(name) for each in objects]) for name in names or COLUMNS}
    if names is None:
        hashes = column([each.get(_HASH) for each in objects])
        is_filled = compute.greater(compute.binary_length(hashes), 0)
        columns['hash'] = compute.if_else(is_filled, hashes, cells.url_hashes(columns['downloadurl']).cast(hashes.type))
    return Rows(columns, np.array(lines, np.int64), rejected)


def _object(line: bytes) -> dict[str, Plain] | None:
    # Bytes that are no UTF-8 come back as they were.
    text = line.removeprefix(_BOM).decode('utf-8', 'surrogateescape')
    try:
        found = parse_json(text, '')
    except DataError:
        return None
    return found if isinstance(found, dict) else None


