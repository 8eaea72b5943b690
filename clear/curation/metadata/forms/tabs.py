"""Tab-separated metadata, plain, gzip or bzip2: 23 columns, or 25 with the row's number and hash in front."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.errors import DataError, printable
from clear.curation.metadata import cells
from clear.curation.metadata.forms.base import KEY_COLUMNS, TOO_LONG, Form, Keys, Range, Rows, Survey, keys_of
from clear.curation.metadata.records import COLUMNS, WIDE_COLUMNS, Batch, from_cells
from clear.curation.metadata.streams import LineFile

if TYPE_CHECKING:
    from clear.core.types import Plain

_LAYOUTS = {len(COLUMNS): COLUMNS, len(WIDE_COLUMNS): WIDE_COLUMNS}


class TabSeparated(Form):
    """Only LF ends a row and only TAB a cell: a quote, a CR or a NUL in a title is part of the title."""

    NAME = 'tabs'

    def __init__(self, path: Path):
        super().__init__(path)
        self._file = LineFile(path)
        self._columns: tuple[str, ...] = ()

    def close(self) -> None:
        self._file.close()

    @property
    def is_sequential(self) -> bool:
        return self._file.is_packed

    @property
    def columns(self) -> tuple[str, ...]:
        """`COLUMNS` or `WIDE_COLUMNS`, by the first line."""
        if not self._columns:
            line = self._file.first_line()
            found = line.count(b'\t') + 1
            if found not in _LAYOUTS:
                text = printable(line[:60].decode('utf-8', 'replace'))
                raise DataError(f"{self.path}: its first line '{text}…' has {found} columns; expected "
                                f'{" or ".join(map(str, _LAYOUTS))}, separated by TABs.')
            self._columns = _LAYOUTS[found]
        return self._columns

    def check(self) -> None:
        _ = self.columns

    def traits(self) -> Mapping[str, Plain]:
        return dict(columns=len(self.columns))

    def survey(self, interval: int) -> Survey:
        found = self._file.survey(interval)
        return Survey(found.lines, found.sha256, found.marks, found.bytes)

    def rows(self, wanted: Range | None = None, names: Collection[str] | None = None) -> Iterator[Rows]:
        columns = self.columns
        for block in self._file.blocks(*(wanted or Range(0, 0, None))):
            found, numbers = cells.cut(block.data, len(columns), block.count), block.numbers
            rejected = {int(numbers[row]): f'{count} columns in place of {len(columns)}'
                        for row, count in found.wrong.items()}
            yield Rows(dict(zip(columns, found.arrays(range(len(columns))))), numbers[found.rows],
                       rejected | dict.fromkeys(block.too_long, TOO_LONG))

    def batches(self, wanted: Range) -> Iterator[Batch]:
        columns = self.columns
        for block in self._file.blocks(*wanted):
            batch = from_cells(cells.cut(block.data, len(columns), block.count), columns, block.numbers)
            batch.rejected.update(dict.fromkeys(block.too_long, TOO_LONG))
            yield batch

    def read_keys(self) -> Iterator[Keys]:
        """Straight from the bytes: no cell is taken out."""
        columns = self.columns
        places = [columns.index(name) for name in KEY_COLUMNS]
        for block in self._file.blocks(0):
            found = cells.cut(block.data, len(columns), block.count)
            yield keys_of([found.spans(place) for place in places], len(block.too_long) + len(found.wrong))
