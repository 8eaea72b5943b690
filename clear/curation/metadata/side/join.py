"""A side file in the order of the records: joined by id and sorted on the disk, then read once from front to back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet

from clear.curation.manifest import Finished
from clear.curation.metadata.side.kinds import Kind, read_side
from clear.curation.metadata.writing import RECORDS
from clear.curation.queries import querying

_BATCH = 8192
Reject = Callable[[Mapping[int, str]], None]


def sort_side(path: Path, kind: Kind, records: Finished, target: Path, reject: Reject) -> Counter[str]:
    """Write the values of a side file to a Parquet file in the order of the records' lines.

    A line whose id no record has is left out. Of lines with one id all are written, in their order.

    Args:
        target: columns `line` (of the record) and `value`.
        reject: called with the lines of a block that are none, and why.

    Returns:
        `lines` of the file, how many are `rejected`, and how many `without a record`.
    """
    counts: Counter[str] = Counter(lines=0, rejected=0)
    with querying(target.parent) as connection:
        connection.execute('CREATE TABLE keys (id BIGINT, line BIGINT)')
        for file in records.files(RECORDS):
            connection.execute('INSERT INTO keys SELECT id, line FROM read_parquet(?)', [str(file)])
        connection.execute('CREATE TABLE side (id BIGINT, place BIGINT, value BLOB)')
        for rows in read_side(path, kind):
            block = pyarrow.table(dict(id=rows.ids, place=rows.lines, value=rows.values))
            connection.register('block', block)
            connection.execute('INSERT INTO side SELECT id, place, value FROM block')
            connection.unregister('block')
            counts['lines'] += len(rows.ids) + len(rows.rejected)
            counts['rejected'] += len(rows.rejected)
            reject(rows.rejected)
        found = connection.sql('SELECT keys.line, side.value FROM side JOIN keys USING (id) '
                               'ORDER BY keys.line, side.place').to_arrow_reader(_BATCH)
        matched = 0
        with parquet.ParquetWriter(target, found.schema, compression='zstd') as writer:
            for batch in found:
                writer.write_batch(batch)
                matched += len(batch)
    counts['without a record'] = counts['lines'] - counts['rejected'] - matched
    return counts


class Sorted:
    """What `sort_side` wrote, read once, forwards; a context manager."""

    def __init__(self, path: Path):
        self._file = parquet.ParquetFile(path)
        self._found: Iterator[pyarrow.RecordBatch] = self._file.iter_batches(_BATCH)
        self._lines, self._values = np.zeros(0, np.int64), pyarrow.array([], pyarrow.binary())

    def __enter__(self) -> Sorted:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, lines: np.ndarray) -> tuple[pyarrow.BinaryArray, int]:
        """The first value of each of these records, null without one, and how many values were left over.

        Args:
            lines: (N,) int64, ascending, above those of every call before.
        """
        found_lines, found_values = [self._lines], [self._values]
        while not len(found_lines[-1]) or found_lines[-1][-1] <= lines[-1]:
            batch = next(self._found, None)
            if batch is None:
                break
            found_lines.append(batch['line'].to_numpy())
            found_values.append(batch['value'])
        all_lines, all_values = np.concatenate(found_lines), pyarrow.concat_arrays(found_values)
        behind = int(np.searchsorted(all_lines, lines[-1], 'right'))
        self._lines, self._values = all_lines[behind:], all_values[behind:]
        first = int(np.searchsorted(all_lines, lines[0]))
        here = all_lines[first:behind]
        places = np.searchsorted(here, lines)
        has_one = places < len(here)
        has_one[has_one] = here[places[has_one]] == lines[has_one]
        values = all_values.take(pyarrow.array(places + first, mask=~has_one))
        return values, len(here) - int(has_one.sum())
