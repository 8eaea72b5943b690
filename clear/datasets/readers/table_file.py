"""Tables of images: `.csv`, `.parquet` and `.jsonl` files with one row per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import compute, csv, parquet, types

from clear.core.errors import DataError, nearest
from clear.core.files import parse_json, read_text, regular_file
from clear.datasets.columns import PARTS, plain_texts, text_column
from clear.datasets.readers.dates import parse_time
from clear.datasets.readers.image_files import check_different, existing_folder, folder_of
from clear.datasets.readers.labels import class_indices, read_labels
from clear.datasets.readers.listing import listed_images
from clear.datasets.table import ImageTable
from clear.registry import READERS

TABLE_SUFFIXES = ('.csv', '.parquet', '.jsonl')
TEXT_COLUMNS = ('id', 'bucket', 'split', 'caption', 'mask', 'clip')
_UTC = pyarrow.timestamp('us', tz='UTC')

Cells = pyarrow.ChunkedArray | list[object]


@dataclass(frozen=True)
class Columns:
    """Names of the columns that hold the path, the class name (or index) and the date."""

    path: str = 'path'
    label: str = 'label'
    time: str = 'timestamp'


@READERS.register_module(name='Table')
def table_images(path: str, root: str | None = None, class_names: Sequence[str] | None = None,
                 path_column: str = 'path', label_column: str = 'label', time_column: str = 'timestamp') -> ImageTable:
    """A table with the column `path`, and if wanted `label`, `timestamp` or `taken_at`, and those of `TEXT_COLUMNS`.

    With `shard`, `offset` and `bytes` an image is that part of a file, as `ImageTable` says.

    Labels are class indices (of `class_names`; without them the classes are those that occur, named by their numbers),
    or class names (then sorted, unless `class_names` gives the order); empty = no label. Timestamps are read by
    `parse_time`; without a zone they are UTC.

    Args:
        root: what paths are relative to; by default the folder of the table.
        path_column, label_column, time_column: names of these columns.

    Raises:
        DataError: if the file is no table, a column is missing or has the wrong type, a path or id is missing or there
            twice, or a path leaves the root.
    """
    file = Path(path)
    named = {name for name, usual in ((label_column, 'label'), (time_column, 'timestamp')) if name != usual}
    columns = read_columns(file, [path_column, *named], [label_column, time_column, 'taken_at', *TEXT_COLUMNS, *PARTS],
                           text=[path_column, time_column, *TEXT_COLUMNS, PARTS[0]])
    found = dict(path=filled_text(columns[path_column], path_column, file))
    if 'id' in columns:
        found['id'] = filled_text(columns['id'], 'id', file)
    else:
        check_different(found['path'], file)
    found |= {name: text_cells(columns[name], name, file) for name in TEXT_COLUMNS[1:] if name in columns}
    names: Sequence[str] = class_names or ()
    if label_column in columns:
        found['label'], names = _labels(columns[label_column], class_names or None, str(file))
    if all(name in columns for name in PARTS):
        found |= {name: columns[name] for name in PARTS[1:]} | dict(shard=text_cells(columns['shard'], 'shard', file))
    times = columns.get(time_column, columns.get('taken_at'))
    if times is not None:
        found['taken_at'] = _times(times, file)
    return ImageTable.from_columns(folder_of(file, root), found, names, name=file.stem)


@READERS.register_module(name='TableImages')
def read_table(table: str | Path, data_root: str | Path | None = None, path_column: str = 'path') -> ImageTable:
    """The images that a column names, in the order of its rows, without whatever else the table holds.

    Args:
        data_root: what the paths are relative to; None means the folder of the table.

    Raises:
        DataError: if the table cannot be read, lacks the column or a cell, or a path is missing, named twice or
            outside the root.
    """
    file = Path(table)
    paths = filled_text(read_columns(file, [path_column], text=[path_column])[path_column], path_column, file)
    return listed_images(file, existing_folder(data_root or file.parent), paths)


def read_columns(file: Path, needed: Sequence[str], others: Sequence[str] = (), text: Sequence[str] = ()
                 ) -> dict[str, Cells]:
    """Columns of a table by name: those needed, and of the others those that are there.

    Args:
        text: columns of a `.csv` that stay text. Names such as 0012 must not become numbers, nor years or seconds what
            pyarrow guesses.

    Raises:
        DataError: if the file is no table, or lacks a column that is needed.
    """
    kind = file.suffix.lower()
    if kind not in TABLE_SUFFIXES:
        raise DataError(f'{file}: a table ends in {", ".join(TABLE_SUFFIXES[:-1])} or {TABLE_SUFFIXES[-1]}.')
    if kind == '.jsonl':
        return _read_json_lines(file, needed, others)
    try:
        if regular_file(file).suffix.lower() == '.parquet':
            names = parquet.read_schema(file).names
            wanted = [name for name in dict.fromkeys([*needed, *others]) if name in names]
            found = parquet.read_table(file, columns=wanted) if wanted else None
        else:
            options = csv.ConvertOptions(column_types=dict.fromkeys(text, pyarrow.string()), null_values=[''],
                                         strings_can_be_null=True)
            found = csv.read_csv(file, convert_options=options)
            names = found.column_names  # decoded here
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise DataError(f'{file} cannot be read as a table: {error}') from error
    for name in needed:
        require_column(file, name, names)
    return {name: found[name] for name in dict.fromkeys([*needed, *others]) if name in names}


def _read_json_lines(file: Path, needed: Sequence[str], others: Sequence[str]) -> dict[str, list]:
    # Not by pyarrow, whose reader ends the process on lines that are nested deep.
    rows = [parse_json(line, f'{file}:{number}') for number, line in enumerate(read_text(file).split('\n'), start=1)
            if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise DataError(f'{file}: expected an object {{"{needed[0]}": ...}} on every line.')
    names = dict.fromkeys(key for row in rows for key in row)
    for name in needed:
        require_column(file, name, list(names))
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys([*needed, *others]) if name in names}


def require_column(file: Path, column: str, names: list[str]) -> None:
    if column not in names:
        near = nearest(column, names)
        raise DataError(f"{file} has no column '{column}'{f', nearest: {near}' if near else ''}. Columns: "
                        f'{", ".join(names)}.')


def text_cells(cells: Cells, name: str, file: Path) -> pyarrow.ChunkedArray | pyarrow.Array:
    """A column as text; numbers and dates as they are written, None where a cell is empty.

    Raises:
        DataError: for a column of anything else, such as lists or truth values.
    """
    if isinstance(cells, list):
        odd = next((row for row, value in enumerate(cells)
                    if isinstance(value, bool) or not isinstance(value, (str, int, float, type(None)))), None)
        if odd is not None:
            raise DataError(f"{file}, row {odd + 1}: column '{name}' should hold text, found {str(cells[odd])[:80]}.")
        return text_column([None if value is None else str(value) for value in cells])
    kind = cells.type
    if types.is_dictionary(kind):
        return text_cells(cells.cast(kind.value_type), name, file)
    if types.is_string_view(kind) or types.is_integer(kind) or types.is_null(kind):
        return cells.cast(pyarrow.string())
    if types.is_string(kind) or types.is_large_string(kind):
        return cells
    if types.is_binary(kind) or types.is_large_binary(kind):
        return _decoded(cells, name, file)
    if types.is_floating(kind) or types.is_temporal(kind) or types.is_decimal(kind):
        return text_column([None if value is None else str(value) for value in cells.to_pylist()])
    raise DataError(f"{file}: column '{name}' should hold text, found {kind}.")


def _decoded(cells: pyarrow.ChunkedArray, name: str, file: Path) -> pyarrow.ChunkedArray:
    """Bytes as text; as they are where they hold names of files that are not UTF-8 as tables of images write them."""
    try:
        return cells.cast(pyarrow.large_string() if types.is_large_binary(cells.type) else pyarrow.string())
    except pyarrow.ArrowInvalid:
        try:
            plain_texts(cells)
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: column '{name}' holds bytes that are no UTF-8: {error}.") from error
        return cells


def filled_text(cells: Cells, name: str, file: Path) -> pyarrow.ChunkedArray | pyarrow.Array:
    """A column as text, every cell of which holds something.

    Raises:
        DataError: as `text_cells` does, or if a cell is empty.
    """
    column = text_cells(cells, name, file)
    check_filled(compute.equal(compute.binary_length(column), 0).fill_null(True), name, file)
    return column


def check_filled(is_empty: Sequence[bool] | pyarrow.ChunkedArray, name: str, file: Path) -> None:
    """Refuse a column with empty cells.

    Raises:
        DataError: saying how many there are, and where the first is.
    """
    rows = np.asarray(is_empty).nonzero()[0]
    if len(rows):
        raise DataError(f'{file}: {len(rows)} rows have no {name}, first row {rows[0] + 1}.')


def _labels(cells: Cells, class_names: Sequence[str] | None, where: str) -> tuple[Sequence[int], list[str]]:
    """Class indices and the names of the classes; of different values once, as there may be millions of rows."""
    if isinstance(cells, list):
        odd = next((row for row, value in enumerate(cells) if isinstance(value, (list, dict))), None)
        if odd is not None:
            raise DataError(f"{where}, row {odd + 1}: column 'label' should hold class indices or names, found "
                            f'{str(cells[odd])[:80]}.')
        return class_indices(read_labels(cells, where), class_names, where)
    if types.is_nested(cells.type):
        raise DataError(f"{where}: column 'label' should hold class indices or names, found {cells.type}.")
    encoded = cells.combine_chunks().dictionary_encode()
    try:
        places, names = class_indices(read_labels(encoded.dictionary.to_pylist(), where), class_names, where)
    except DataError:
        return class_indices(read_labels(cells.to_pylist(), where), class_names, where)  # names the row
    return np.array([*places, -1])[encoded.indices.fill_null(len(places)).to_numpy()], names


def _times(cells: Cells, file: Path) -> pyarrow.ChunkedArray | list[datetime | None]:
    if not isinstance(cells, list) and types.is_timestamp(cells.type):
        zoned = cells if cells.type.tz is not None else compute.assume_timezone(cells, 'UTC')
        return zoned.cast(_UTC, safe=False)
    return read_times(cells if isinstance(cells, list) else cells.to_pylist(), file)


def read_times(cells: Sequence[object], file: Path) -> list[datetime | None]:
    """Dates in UTC by `parse_time`, None where a cell is empty.

    Raises:
        DataError: naming the row of what is no date.
    """
    return [_time(value, file, row) for row, value in enumerate(cells, start=1)]


def _time(value: object, file: Path, row: int) -> datetime | None:
    try:
        return parse_time(value)
    except ValueError as error:
        raise DataError(f'{file}, row {row}: {error}.') from error
