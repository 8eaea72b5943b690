"""Tables in Parquet: typed columns, read by batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet

from clear.core.errors import DataError
from clear.core.files import regular_file
from clear.curation.metadata.forms.values import column
from clear.curation.metadata.own.table_parts import Part, Table, TableRows, TableSurvey

MAGIC = b'PAR1'
_BLOCK_ROWS = 8192


class ParquetTable(Table):
    """Numbers become text, dates and times stay times; a column of any other type is refused."""

    def __init__(self, path: Path):
        super().__init__(path)
        try:
            self._file = parquet.ParquetFile(regular_file(path))
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f'{path} cannot be read as Parquet ({error}). Fetch it again.') from error

    def close(self) -> None:
        self._file.close()

    def names(self) -> list[str]:
        return self._file.schema_arrow.names

    def has_times(self, name: str) -> bool:
        return pyarrow.types.is_temporal(self._file.schema_arrow.field(name).type)

    def survey(self, interval: int) -> TableSurvey:
        count = self._file.metadata.num_rows
        with self.path.open('rb') as file:
            digest = hashlib.file_digest(file, 'sha256').hexdigest()
        return TableSurvey(count, digest, [Part(first, first, min(first + interval, count))
                                           for first in range(0, count, interval)])

    def rows(self, part: Part | None, names: Sequence[str]) -> Iterator[TableRows]:
        start, stop = (part.place, part.end) if part is not None else (0, self._file.metadata.num_rows)
        groups, row = [], None
        place = 0
        for group in range(self._file.num_row_groups):
            behind = place + self._file.metadata.row_group(group).num_rows
            if behind > start and place < stop:
                groups.append(group)
                row = place if row is None else row
            place = behind
        try:
            for batch in self._file.iter_batches(_BLOCK_ROWS, groups, list(dict.fromkeys(names))):
                first = row
                row += len(batch)
                if row <= start:
                    continue
                if first >= stop:
                    break
                batch = batch.slice(max(start - first, 0), min(row, stop) - max(start, first))
                lines = np.arange(max(start, first), min(row, stop))
                yield TableRows({name: self._cells(batch[name], name) for name in names}, lines)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f'{self.path} cannot be read as Parquet ({error}). Fetch it again.') from error

    def _cells(self, values: pyarrow.Array, name: str) -> pyarrow.Array:
        kind, types = values.type, pyarrow.types
        if types.is_dictionary(kind):
            values = values.dictionary_decode()
            kind = values.type
        if types.is_timestamp(kind) or types.is_date(kind):
            # The year 1 to 9999 fit into microseconds; finer ones are cut, as all clocks do.
            zone = kind.tz if types.is_timestamp(kind) else None
            return values.cast(pyarrow.timestamp('us', tz=zone), safe=False)
        if types.is_floating(kind):  # as pandas holds whole numbers of which some are missing
            return column([None if value is None or isnan(value) else int(value) if value.is_integer() else value
                           for value in values.to_pylist()])
        if types.is_integer(kind):
            values = values.cast(pyarrow.string())
        elif not (types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind)
                  or types.is_large_binary(kind) or types.is_null(kind)):
            raise DataError(f"{self.path}: column '{name}' is {kind}; expected text, numbers or times.")
        return values.cast(pyarrow.binary()).fill_null(b'')
