"""A stream from a table of images with dates, cut into periods."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import compute

from clear.core.checks import check_choice, check_whole
from clear.core.errors import ConfigError, DataError
from clear.datasets.buckets import cut_buckets
from clear.datasets.columns import plain_texts, runs
from clear.datasets.readers.by_time import SplitOptions, all_images, divide
from clear.datasets.readers.clear.clear import ClearData, check_disjoint
from clear.datasets.readers.dates import parse_time
from clear.datasets.readers.image_files import real_path
from clear.datasets.readers.labels import ordered_names, read_labels
from clear.datasets.readers.table_file import Columns, check_filled, filled_text, read_columns, read_times
from clear.datasets.table import ImageTable
from clear.registry import READERS

logger = logging.getLogger('clear')

FREQUENCIES = {'year': '%Y', 'month': '%Y-%m'}


@dataclass(frozen=True)
class Periods:
    """How time is cut; exactly one of the first three is given.

    Attributes:
        num_buckets: that many buckets, of equal counts or of equal time.
        edges: dates between the buckets; n edges make n + 1 buckets, and an image at an edge is in the later one.
        freq: 'year' or 'month', in UTC. Periods without images are left out.
        equal: 'count' or 'time', with `num_buckets`.
    """

    num_buckets: int | None = None
    edges: Sequence[object] | None = None
    freq: str | None = None
    equal: str = 'count'

    def check(self) -> None:
        """Raise ConfigError for values that are unknown or do not go together."""
        if sum(value is not None for value in (self.num_buckets, self.edges, self.freq)) != 1:
            raise ConfigError('a table is cut by one of scenario.num_buckets, scenario.edges and scenario.freq; give '
                              'exactly one of them.')
        if self.num_buckets is not None:
            check_whole('num_buckets', self.num_buckets, 1)
        if self.freq is not None:
            check_choice('freq', self.freq, FREQUENCIES)
        check_choice('equal', self.equal, ('count', 'time'))


@READERS.register_module(name='TableByTime')
def table_by_time(table: str, data_root: str | None = None, num_buckets: int | None = None,
                  edges: Sequence[object] | None = None, freq: str | None = None, equal: str = 'count',
                  path_column: str = 'path', label_column: str = 'label', time_column: str = 'timestamp',
                  missing: str = 'refuse') -> ImageTable:
    """All images of a table with dates, bucket by bucket, as `scenario.type='TableByTime'` reads them."""
    return all_images(read_table_by_time(
        table, Periods(num_buckets, edges, freq, equal), SplitOptions('streaming', None),
        Columns(path_column, label_column, time_column), root=data_root, missing=missing))


def read_table_by_time(table: str | Path, periods: Periods, options: SplitOptions, columns: Columns, *,
                       root: str | Path | None = None, missing: str = 'refuse') -> ClearData:
    """Read a `.csv`, `.parquet` or `.jsonl` file with one row per image.

    Labels are class names, sorted; whole numbers, also as floats, are sorted as numbers. Rows of a bucket lie
    in the order of time, equal times in the order of paths.

    Args:
        root: what paths are relative to; None means the folder of the table.
        missing: rows without a date: 'refuse', or 'drop', which leaves them out with a warning.

    Raises:
        ConfigError: for options that are unknown or do not go together.
        DataError: if the table or a column is missing, a cell is empty or no date, a path leaves `root` or is listed
            twice, or a bucket would be empty.
    """
    options.check()
    periods.check()
    check_choice('missing', missing, ('refuse', 'drop'))
    table = Path(table)
    root = real_path(root if root is not None else table.parent)
    paths, labels, times = _read_columns(table, columns, missing)
    class_names = ordered_names(labels)
    label_of = {name: index for index, name in enumerate(class_names)}
    keys = pyarrow.table({'time': pyarrow.array(times, pyarrow.timestamp('us', tz='UTC')), 'path': paths})
    order = compute.sort_indices(keys, [('time', 'ascending'), ('path', 'ascending')])
    rows = order.to_pylist()
    sizes = [(name, len(places)) for name, places in cut([times[row] for row in rows], periods, table)]
    paths = paths.take(order)
    _check_disjoint(paths, sizes, root)
    images = ImageTable.from_columns(root, dict(path=paths, label=[label_of[labels[row]] for row in rows],
                                                bucket=runs(sizes)), class_names)
    return divide('table', images, sizes, options)


def _check_disjoint(paths: pyarrow.ChunkedArray, sizes: Sequence[tuple[str, int]], root: Path) -> None:
    whole = ImageTable.trusted(root, dict(path=paths))
    check_disjoint(cut_buckets(whole, sizes), root)


def _read_columns(table: Path, columns: Columns, missing: str
                  ) -> tuple[pyarrow.ChunkedArray | pyarrow.Array, list[str], list[datetime]]:
    wanted = [columns.path, columns.label, columns.time]
    found = read_columns(table, wanted, text=wanted)
    paths = filled_text(found[columns.path], columns.path, table)
    labels, times = (cells if isinstance(cells, list) else cells.to_pylist()
                     for cells in (found[columns.label], found[columns.time]))
    labels = read_labels(labels, str(table))
    check_filled([label is None for label in labels], columns.label, table)
    times = read_times(times, table)
    kept = [row for row, time in enumerate(times) if time is not None]
    dropped = len(times) - len(kept)
    if dropped and missing == 'refuse':
        row = next(row for row, time in enumerate(times) if time is None)
        path = plain_texts(paths.slice(row, 1))[0]
        raise DataError(f"{table}: {dropped} of {len(times)} rows have no {columns.time}, first row {row + 1} "
                        f"({path}). missing='drop' leaves them out.")
    if not kept:
        raise DataError(f'{table} has no row with a {columns.time}.')
    if dropped:
        logger.warning('%s: %d of %d rows have no %s and are left out.', table, dropped, len(times), columns.time)
    return paths.take(pyarrow.array(kept)), [str(labels[row]) for row in kept], [times[row] for row in kept]


def cut(times: list[datetime], periods: Periods, table: Path) -> list[tuple[str, range]]:
    """Name and positions of each bucket in `times`, which ascend."""
    if periods.freq is not None:
        names = [time.strftime(FREQUENCIES[periods.freq]) for time in times]
        starts = [0] + [row for row in range(1, len(names)) if names[row] != names[row - 1]]
        return [(names[start], range(start, end)) for start, end in zip(starts, [*starts[1:], len(names)])]
    if periods.edges is not None:
        edges = _edges(periods.edges)
        labels = [str(edge) for edge in periods.edges]
        names = [f'{low}..{high}' for low, high in zip(['', *labels], [*labels, ''])]
    else:
        names = [str(number + 1) for number in range(periods.num_buckets)]
        if periods.equal == 'count':
            return _equal_counts(names, len(times), table)
        width = (times[-1] - times[0]) / len(names)
        edges = [times[0] + width * number for number in range(1, len(names))]
    ends = [0, *np.searchsorted(np.array([time.timestamp() for time in times]),
                                [edge.timestamp() for edge in edges], side='left').tolist(), len(times)]
    empty = [name for name, start, end in zip(names, ends, ends[1:]) if start == end]
    if empty:
        raise DataError(f'{table}: no image is in bucket {", ".join(empty)}; the images are from {times[0]:%Y-%m-%d} '
                        f"to {times[-1]:%Y-%m-%d}. Use other edges, fewer buckets, or equal='count'.")
    return [(name, range(start, end)) for name, start, end in zip(names, ends, ends[1:])]


def _equal_counts(names: list[str], count: int, table: Path) -> list[tuple[str, range]]:
    if count < len(names):
        raise DataError(f'{table} has {count} images, too few for {len(names)} buckets.')
    size, longer = divmod(count, len(names))
    ends = [number * size + min(number, longer) for number in range(len(names) + 1)]
    return [(name, range(start, end)) for name, start, end in zip(names, ends, ends[1:])]


def _edges(edges: Sequence[object]) -> list[datetime]:
    try:
        times = [parse_time(edge) for edge in edges]
    except ValueError as error:
        raise ConfigError(f'edges: {error}.') from error
    if not times or None in times or times != sorted(set(times)):
        raise ConfigError(f'edges are {list(edges)}; expected ascending dates.')
    return times
