"""Tables of text with a line of column names: CSV with quotes as RFC 4180 has them, TSV without, plain or packed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow

from clear.core.errors import DataError
from clear.curation.metadata.forms.base import TOO_LONG
from clear.curation.metadata.own.table_parts import Part, Table, TableRows, TableSurvey
from clear.curation.metadata.streams import MAX_LINE_BYTES, LineFile

NOT_CLOSED, BEHIND_QUOTE = 'a quote is not closed', 'text behind a closing quote'
_BLOCK_ROWS, _BLOCK_BYTES = 8192, 8 << 20
_BOM = b'\xef\xbb\xbf'
_UTF_16 = (b'\xff\xfe', b'\xfe\xff')


class Delimited(Table):
    """A row is a line, and a cell ends at the delimiter.

    With quotes, a cell that begins with `"` goes on to the next `"` that is not doubled, over delimiters and ends of
    lines; a quote anywhere else is text. Where that cannot be (the quote is closed nowhere within a MiB, or something
    stands behind it), the row's first line is rejected and reading goes on with the next: a lone quote costs one row.
    Empty lines are no rows. A CR before the LF that ends a row belongs to the end.

    Args:
        delimiter: one byte.
        has_quotes: whether quotes mean anything.
    """

    def __init__(self, path: Path, delimiter: str, has_quotes: bool):
        super().__init__(path)
        self._file = LineFile(path)
        self._delimiter, self._has_quotes = delimiter.encode(), has_quotes
        self._names: list[str] = []
        self._start = (0, 0)  # number and place of the first line behind the names

    def close(self) -> None:
        self._file.close()

    @property
    def is_sequential(self) -> bool:
        return self._file.is_packed

    def names(self) -> list[str]:
        if not self._names:
            found = self._records(Part(0, 0, None), 0)
            head = next(found, None)
            if head is None:
                raise DataError(f'{self.path} has no lines.')
            if isinstance(head[2], str):
                raise DataError(f'{self.path}: its first line holds no names of columns: {head[2]}.')
            if head[2][0].startswith(_UTF_16):
                raise DataError(f'{self.path} is UTF-16. Save it as UTF-8.')
            behind = next(found, None)
            self._names = [name.decode('utf-8', 'replace') for name in head[2]]
            self._start = (behind[0], behind[1]) if behind is not None else (-1, -1)
        return self._names

    def survey(self, interval: int) -> TableSurvey:
        count = len(self.names())
        starts = [(line, place) for row, (line, place, _) in enumerate(self._records(Part(*self._start, None), count))
                  if row % interval == 0]
        found = self._file.survey(1 << 60)
        ends = [*(place for _, place in starts[1:]), found.bytes]
        return TableSurvey(found.lines, found.sha256, [Part(*start, end) for start, end in zip(starts, ends)])

    def rows(self, part: Part | None, names: Sequence[str]) -> Iterator[TableRows]:
        places = [self.names().index(name) for name in names]
        lines, cells, rejected, size = [], [], {}, 0
        for line, _, found in self._records(part or Part(*self._start, None), len(self._names)):
            if isinstance(found, str):
                rejected[line] = found
                continue
            lines.append(line)
            cells.append([found[place] for place in places])
            size += sum(map(len, cells[-1]))
            if len(lines) == _BLOCK_ROWS or size > _BLOCK_BYTES:
                yield _as_rows(names, lines, cells, rejected)
                lines, cells, rejected, size = [], [], {}, 0
        if lines or rejected:
            yield _as_rows(names, lines, cells, rejected)

    def _records(self, part: Part, count: int) -> Iterator[tuple[int, int, list[bytes] | str]]:
        """Number and place of the line that each row begins with, and its cells, or why it is none.

        Args:
            part: `end` may be None.
            count: how many cells a row must have; 0 = any.
        """
        if part.place < 0:
            return
        lines = _Lines(self._file, part)
        while (begin := lines.next()) is not None:
            number, place, line = begin
            if place == 0 and line is not None:  # before a quote is looked for, which stands behind it
                line = line.removeprefix(_BOM)
            if line is None:
                yield number, place, TOO_LONG
            elif line.strip(b'\r\n'):
                found = self._cells(line, lines)
                if not isinstance(found, str) and count and len(found) != count:
                    found = f'{len(found)} columns in place of {count}'
                yield number, place, found

    def _cells(self, line: bytes, lines: _Lines) -> list[bytes] | str:
        """The cells of the row that begins with a line, or why it is none."""
        if not self._has_quotes or b'"' not in line:
            return _without_end(line).split(self._delimiter)
        row, found, at = bytearray(line), [], 0
        while True:
            if row[at:at + 1] != b'"':
                end = row.find(self._delimiter, at)
                found.append(bytes(row[at:end]) if end >= 0 else _without_end(bytes(row[at:])))
                if end < 0:
                    break
                at = end + 1
                continue
            end = _closing(row, at + 1, lines)
            if end < 0:
                return NOT_CLOSED
            found.append(bytes(row[at + 1:end]).replace(b'""', b'"'))
            at = end + 2
            if not _without_end(bytes(row[end + 1:end + 3])):
                break
            if row[end + 1:at] != self._delimiter:
                return BEHIND_QUOTE
        lines.keep()
        return found


class _Lines:
    """Lines of a file, one after the other; a row may look at those behind it before it takes them."""

    def __init__(self, file: LineFile, part: Part):
        self._found, self._number, self._end = file.lines(part.place), part.first, part.end
        self._waiting: deque[tuple[int, bytes | None]] = deque()
        self._ahead, self._at = 0, part.place

    def next(self) -> tuple[int, int, bytes | None] | None:
        """Number, place and content of the next line; None at the end of the part."""
        self._ahead = 0
        # Not one line more than needed: of a packed file the next part would be reached from its begin.
        if not self._waiting and self._end is not None and self._at >= self._end:
            return None
        place, line = self._waiting.popleft() if self._waiting else next(self._found, (0, b''))
        if line == b'' or (self._end is not None and place >= self._end):
            return None
        self._number += 1
        self._at = place + len(line or b'')
        return self._number - 1, place, line

    def more(self) -> bytes | None:
        """The next of the lines behind, also beyond the end of the part; None where there is none that can be taken."""
        if self._ahead == len(self._waiting):
            found = next(self._found, None)
            if found is None:
                return None
            self._waiting.append(found)
        self._ahead += 1
        return self._waiting[self._ahead - 1][1]

    def keep(self) -> None:
        """Take the lines that were looked at."""
        for _ in range(self._ahead):
            place, line = self._waiting.popleft()
            self._at = place + len(line or b'')
        self._number += self._ahead
        self._ahead = 0


def _closing(row: bytearray, start: int, lines: _Lines) -> int:
    """Place of the quote that ends a cell; -1 if there is none. `row` grows by the lines that the cell goes on in."""
    while True:
        end = row.find(b'"', start)
        if end >= 0 and row[end + 1:end + 2] != b'"':
            return end
        start = end + 2 if end >= 0 else len(row)
        if end < 0:
            line = lines.more()
            if line is None or len(row) + len(line) > MAX_LINE_BYTES:
                return -1
            row += line


def _without_end(line: bytes) -> bytes:
    return line.removesuffix(b'\n').removesuffix(b'\r')


def _as_rows(names: Sequence[str], lines: list[int], cells: list[list[bytes]], rejected: dict[int, str]) -> TableRows:
    columns = list(zip(*cells)) or [()] * len(names)
    return TableRows({name: pyarrow.array(values, pyarrow.binary()) for name, values in zip(names, columns)},
                     np.array(lines, np.int64), rejected)
