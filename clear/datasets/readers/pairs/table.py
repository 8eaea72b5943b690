"""Tables of images with captions: comma- or tab-separated text, and Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import compute, csv

from clear.core.checks import check_choice, check_whole
from clear.core.errors import ConfigError, DataError
from clear.core.files import regular_file
from clear.datasets.columns import plain_texts, runs
from clear.datasets.readers.image_files import first_missing, folder_of
from clear.datasets.readers.table_by_time import Periods, cut
from clear.datasets.readers.table_file import Cells, filled_text, read_columns, read_times, require_column, text_cells
from clear.datasets.table import ImageTable
from clear.registry import READERS

SEPARATORS = {'.csv': ',', '.tsv': '\t', '.txt': '\t'}
ENCODINGS = ('utf-8', 'gb18030')


@READERS.register_module(name='ImageTextTable')
def image_text_table(path: str, root: str | None = None, separator: str | None = None, image_key: str = 'filepath',
                     caption_key: str = 'title', max_rows: int | None = None, merge: bool = False,
                     quoting: bool | None = None, encoding: str = 'utf-8', time_key: str | None = None,
                     num_buckets: int | None = None, edges: Sequence | None = None, freq: str | None = None,
                     equal: str = 'count') -> ImageTable:
    """Pairs of a `.csv`, `.tsv`, `.parquet` or `.jsonl` file with one row per pair and a header.

    An image that is in several rows is in the table as often, with the ids `path`, `path#1`, `path#2`; with `merge` it
    is there once, with a list of captions.

    Args:
        root: what paths are relative to; by default the folder of the table.
        separator: of text; by default a comma in `.csv`, else a tab.
        image_key, caption_key: names of the columns.
        max_rows: take the first so many.
        quoting: whether a cell may be in double quotes, which then belong to the file and not to the caption; by
            default in comma-separated text alone.
        encoding: of text, 'utf-8' or 'gb18030'.
        time_key: name of a column of dates, which cuts the pairs into buckets: exactly one of `num_buckets`, `edges`
            and `freq` says how, see `Periods`. Pairs then lie in the order of time.

    Raises:
        ConfigError: for options that are unknown or do not go together.
        DataError: if the file is no table, lacks a column, a caption is empty, or an image is not there.
    """
    file = Path(path)
    keys = [image_key, caption_key, *([] if time_key is None else [time_key])]
    columns = _columns(file, keys, separator, quoting, encoding)
    if max_rows is not None:
        check_whole('max_rows', max_rows, 1)
        columns = {name: cells[:max_rows] for name, cells in columns.items()}
    paths = filled_text(columns[image_key], image_key, file)
    captions = filled_text(columns[caption_key], caption_key, file)
    check_captions(captions, str(file))
    found = dict(path=paths, caption=captions)
    if time_key is not None:
        found = _in_order_of_time(found, columns[time_key], Periods(num_buckets, edges, freq, equal), file)
    elif any(value is not None for value in (num_buckets, edges, freq)):
        raise ConfigError('num_buckets, edges and freq cut pairs by their dates; name the column by time_key.')
    base = folder_of(file, root)
    found = _merged(found) if merge else found | dict(id=_ids(plain_texts(found['path'])))
    images = ImageTable.from_columns(base, found, name=file.stem)
    check_files(images, str(file))
    return images


@READERS.register_module(name='RetrievalTable')
def retrieval_table(path: str, root: str | None = None, separator: str | None = None, image_key: str = 'filepath',
                    caption_key: str = 'title', quoting: bool | None = None, encoding: str | None = None) -> ImageTable:
    """Images with all their captions, of a table with one row per caption, as ITRA's `retrieval-csv-*`.

    Rows of one image are merged, images are sorted by path, and captions are in the order of the file.

    Args:
        root, separator, image_key, caption_key, quoting: as for `ImageTextTable`.
        encoding: None is 'gb18030' for a file with `rsicd` in its name, else 'utf-8'.

    Raises:
        ConfigError, DataError: as `ImageTextTable` does.
    """
    if encoding is None:
        encoding = 'gb18030' if 'rsicd' in Path(path).name else 'utf-8'
    images = image_text_table(path, root, separator, image_key, caption_key, merge=True, quoting=quoting,
                              encoding=encoding)
    paths = images.texts('path')
    return images.select(np.array(sorted(range(len(paths)), key=paths.__getitem__)))


def check_captions(captions: pyarrow.Array | pyarrow.ChunkedArray, where: str) -> None:
    """Refuse a caption of blanks.

    Raises:
        DataError: naming its row.
    """
    blank = compute.equal(compute.utf8_length(compute.utf8_trim_whitespace(captions)), 0)
    row = compute.index(blank, True).as_py()
    if row >= 0:
        raise DataError(f'{where}: row {row + 1} has an empty caption.')


def check_files(images: ImageTable, where: str) -> None:
    """Refuse images of which one is not there.

    Raises:
        DataError: naming the first.
    """
    row = first_missing(images.root, images.texts('path'))
    if row is not None:
        raise DataError(f"{where}: image {row + 1} of {len(images)}, '{images.text('path', row)}', is not in "
                        f'{images.root}. Is the root right, and are the data complete?')


def table_columns(file: Path, names: Sequence[str], separator: str | None = None) -> dict[str, list[str]]:
    """Columns of a table as lists of texts, as `image_text_table` reads them; an empty cell is ''.

    Raises:
        DataError: if the file is no table, has no rows, or lacks a column.
    """
    found = _columns(file, list(names), separator, None, 'utf-8')
    columns = {name: [value or '' for value in plain_texts(text_cells(cells, name, file))]
               for name, cells in found.items()}
    if not columns[names[0]]:
        raise DataError(f'{file} has no rows.')
    return columns


def _columns(file: Path, keys: list[str], separator: str | None, quoting: bool | None, encoding: str
             ) -> dict[str, Cells]:
    kind = file.suffix.lower()
    if kind in ('.parquet', '.jsonl'):
        if separator is not None:
            raise ConfigError(f'separator is {separator!r}, but {file} has none.')
        return read_columns(file, keys, text=keys)
    check_choice('encoding', encoding, ENCODINGS)
    separator = SEPARATORS.get(kind, '\t') if separator is None else separator
    if not isinstance(separator, str) or len(separator) != 1:
        raise ConfigError(f'separator is {separator!r}; expected one character.')
    quoting = separator != '\t' if quoting is None else quoting
    try:
        found = csv.read_csv(
            regular_file(file), read_options=csv.ReadOptions(encoding=encoding),
            parse_options=csv.ParseOptions(delimiter=separator, quote_char='"' if quoting else False),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(keys, pyarrow.string()), null_values=[''],
                                               strings_can_be_null=True))
        names = found.column_names  # decoded here
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise DataError(f'{file} cannot be read as a table separated by {separator!r}: {error}') from error
    for key in keys:
        require_column(file, key, names)
    return {key: found[key] for key in keys}


def _in_order_of_time(found: dict, cells: Cells, periods: Periods, file: Path) -> dict:
    periods.check()
    times = read_times(cells if isinstance(cells, list) else cells.to_pylist(), file)
    missing = next((row for row, time in enumerate(times) if time is None), None)
    if missing is not None:
        raise DataError(f'{file}: row {missing + 1} has no date.')
    paths = plain_texts(found['path'])
    order = sorted(range(len(times)), key=lambda row: (times[row], paths[row], row))
    times = [times[row] for row in order]
    places = pyarrow.array(np.array(order, np.int64))
    buckets = [(name, len(rows)) for name, rows in cut(times, periods, file)]
    return {name: column.take(places) for name, column in found.items()} | dict(taken_at=times, bucket=runs(buckets))


def _ids(paths: list[str]) -> list[str]:
    """The paths; of one that was there before with the number of its repetition."""
    seen: dict[str, int] = {}
    ids = []
    for path in paths:
        count = seen[path] = seen.get(path, -1) + 1
        ids.append(f'{path}#{count}' if count else path)
    return ids


def _merged(found: dict) -> dict:
    """Each image once, where it first stands, with all its captions in their order."""
    rows: dict[str, list[int]] = {}
    for row, path in enumerate(plain_texts(found['path'])):
        rows.setdefault(path, []).append(row)
    first = pyarrow.array([each[0] for each in rows.values()])
    captions = plain_texts(found['caption'])
    merged = {name: column.take(first) for name, column in found.items() if name not in ('caption', 'taken_at')}
    if 'taken_at' in found:
        merged['taken_at'] = [found['taken_at'][each[0]] for each in rows.values()]
    return merged | dict(caption=[[captions[row] for row in each] for each in rows.values()])
