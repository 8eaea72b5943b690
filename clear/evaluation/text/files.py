"""Files of text that tasks read: lines, cells between tabs, and what tells whether a file is the same."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import MAX_TEXT_BYTES, read_bytes, regular_file


def read_lines(path: Path, encoding: str = 'utf-8') -> list[str]:
    """The lines of a text, unpacked if its name ends in `.gz`. A line ends at LF, CRLF or CR, and at nothing else.

    Raises:
        DataError: if there is no such file, it is damaged, or it is no text in that encoding.
    """
    content = _unpacked(path) if path.suffix == '.gz' else read_bytes(path)
    try:
        text = content.decode('utf-8-sig' if encoding == 'utf-8' else encoding)
    except UnicodeDecodeError as error:
        line = content.count(b'\n', 0, error.start) + 1
        raise DataError(f'{path}:{line}: not text in {encoding} (byte {error.object[error.start]:#04x}).') from error
    # Not splitlines(), which also ends lines at U+0085, U+2028 and form feeds: texts of the web hold them.
    lines = text.replace('\r\n', '\n').replace('\r', '\n').split('\n')
    return lines[:-1] if lines[-1] == '' else lines


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(regular_file(path)) as file:
            content = file.read(MAX_TEXT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f'{path} is no whole gzip file: {error}') from error
    if len(content) > MAX_TEXT_BYTES:
        raise DataError(f'{path} unpacks to more than {MAX_TEXT_BYTES:,} bytes, which are read at most.')
    return content


def read_cells(path: Path, count: int, separator: str = '\t', encoding: str = 'utf-8', skip: int = 0
               ) -> list[tuple[int, list[str]]]:
    """(number of the line, its cells) of lines that have at least `count`; quotes are text, blank lines are no rows.

    Args:
        skip: lines before the first row.

    Raises:
        DataError: for a line of fewer cells, as `read_lines`, or if there are no rows.
    """
    rows = []
    for number, line in enumerate(read_lines(path, encoding), start=1):
        if number <= skip or not line.strip():
            continue
        cells = line.split(separator)
        if len(cells) < count:
            raise DataError(f'{path}:{number}: expected {count} cells separated by {separator!r}, found {len(cells)}.')
        rows.append((number, cells))
    if not rows:
        raise DataError(f'{path} has no rows.')
    return rows


def read_named_cells(path: Path, names: Sequence[str], separator: str = '\t') -> list[tuple[int, list[str]]]:
    """The same for a table whose first line names columns; without such a line, all its cells in their order.

    The first line names columns if one of `names` is among its cells.

    Raises:
        DataError: for a column that is not there, or rows of another number of cells than names.
    """
    rows = read_cells(path, 1, separator)
    header = rows[0][1]
    if not set(names) & set(header):
        return read_cells(path, len(names), separator)
    lacking = [name for name in names if name not in header]
    if lacking:
        raise DataError(f"{path} has no column '{lacking[0]}'. Columns: {', '.join(header)}.")
    places = [header.index(name) for name in names]
    found = []
    for number, cells in rows[1:]:
        if len(cells) < len(header):
            raise DataError(f'{path}:{number}: {len(cells)} cells for {len(header)} columns.')
        found.append((number, [cells[place] for place in places]))
    if not found:
        raise DataError(f'{path} has no rows below the names of its columns.')
    return found


def as_number(cell: str, path: Path, line: int) -> float:
    """A finite number.

    Raises:
        DataError: naming the line, for anything else.
    """
    try:
        value = float(cell)
    except ValueError:
        value = float('nan')
    if not abs(value) < float('inf'):
        raise DataError(f"{path}:{line}: expected a number, found '{cell:.40}'.")
    return value


def words_of(text: str) -> str:
    """A sentence with single blanks between its words; '.' for an empty one, as SentEval has it."""
    return ' '.join(text.split()) or '.'


def files_fingerprint(paths: Iterable[Path]) -> str:
    """SHA-256 over the contents of files, in order; where they lie does not matter.

    Raises:
        DataError: if one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with regular_file(path).open('rb') as file:
                digest.update(hashlib.file_digest(file, 'sha256').digest())
        except OSError as error:
            raise DataError(f'{path} cannot be read: {error.strerror or error}.') from error
    return digest.hexdigest()
