"""CSV that a spreadsheet shows as it is: cells that it would compute begin with a quote, which is taken off again."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import read_text, write_text

# What makes a spreadsheet compute a cell, and the quote itself, so that reading knows which quotes are ours.
_QUOTED = ('=', '+', '-', '@', '\t', '\r', '\n', "'")


def quoted(text: str) -> str:
    """A cell that is shown as it is."""
    return f"'{text}" if text.startswith(_QUOTED) else text


def unquoted(cell: str) -> str:
    """The text of a cell; also where a program has taken the quote away."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_QUOTED) else cell


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str | int | float]]) -> None:
    """Write a table whose texts are quoted and whose numbers are numbers."""
    file = io.StringIO()
    # All texts in double quotes: else a lone CR would stand bare, and be the end of a row for whoever reads it.
    writer = csv.writer(file, lineterminator='\n', quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([quoted(row[name]) if isinstance(row[name], str) else row[name] for name in columns])
    write_text(path, file.getvalue())


def read_csv(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with the line on which each ends.

    Raises:
        DataError: if a column is missing, or a row is too short or too long.
    """
    # A spreadsheet may write ';' between cells: the first line says.
    text = read_text(path)
    first = text.split('\n', 1)[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=';' if first.count(';') > first.count(',') else ',')
    lacking = [name for name in needed if name not in (reader.fieldnames or ())]
    if lacking:
        raise DataError(f"{path} has no column '{lacking[0]}'; it has {', '.join(reader.fieldnames or ()) or 'none'}.")
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(f'{path}:{reader.line_num}: a row with more or fewer cells than columns.')
            yield reader.line_num, {name: unquoted(cell) for name, cell in row.items()}
    except csv.Error as error:
        raise DataError(f'{path}:{reader.line_num}: {error}.') from error
