"""Records of a shard as Parquet, with the rows that are none and the counts of both; no id may be there twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow
from pyarrow import parquet

from clear.core.errors import DataError
from clear.curation.manifest import TEMPORARY, Attempt, Plan, StageFolder
from clear.curation.metadata.records import REJECTED, SCHEMA, STORED, Batch
from clear.curation.queries import querying, tables

if TYPE_CHECKING:
    from clear.core.types import Plain

RECORDS, REJECTS = 'records.parquet', 'rejected.parquet'
_ROW_GROUP_BYTES = 32 << 20  # in memory


def write_batches(attempt: Attempt, batches: Iterator[Batch], schema: pyarrow.Schema = SCHEMA) -> None:
    """Records and rejected lines of a shard as Parquet, with their counts."""
    counts: Counter[str] = Counter(records=0, rejected=0)
    rejected: dict[int, str] = {}
    with parquet.ParquetWriter(attempt.folder / RECORDS, schema, **STORED) as writer:
        waiting: list[pyarrow.Table] = []
        for batch in batches:
            waiting.append(batch.records)
            if sum(table.nbytes for table in waiting) >= _ROW_GROUP_BYTES:
                writer.write_table(pyarrow.concat_tables(waiting))
                waiting.clear()
            counts['records'] += len(batch.records)
            counts['videos'] += int(batch.records['is_video'].to_numpy().sum())
            counts.update({f'unreadable {name}': count for name, count in batch.unreadable.items() if count})
            counts.update(batch.noted)
            rejected |= batch.rejected
        if waiting:
            writer.write_table(pyarrow.concat_tables(waiting))
    lines = sorted(rejected)
    parquet.write_table(pyarrow.table([lines, [rejected[line] for line in lines]], schema=REJECTED),
                        attempt.folder / REJECTS, compression='zstd')
    counts['rejected'] = len(lines)
    counts.update(f'rejected: {_kind(reason)}' for reason in rejected.values())
    attempt.counts.update(counts)


def _kind(reason: str) -> str:
    return 'wrong number of columns' if ' columns in place of ' in reason else reason


def refuse_repeated(folder: StageFolder, plan: Plan, column: str = 'id') -> None:
    """Look for values of a column that stand for more than one record.

    Args:
        plan: with `files` that have `name` and `first`, the number of their first line.

    Raises:
        DataError: naming some, with their lines.
    """
    files = [folder.shard_folder(shard) / RECORDS for shard in range(len(plan.shards))]
    with querying(folder.path / TEMPORARY) as connection:
        twice = connection.execute(f'SELECT {column}, min(line), max(line) FROM {tables(files)} WHERE {column} IS NOT '
                                   f'NULL GROUP BY {column} HAVING count(*) > 1 ORDER BY min(line) LIMIT 3').fetchall()
    if twice:
        listed = '; '.join(f'id {found} in {place_of(first, plan.values)} and {place_of(last, plan.values)}'
                           for found, first, last in twice)
        raise DataError(f'an id stands for one photo, but: {listed}. Leave one of the lines out.')


def place_of(line: int, values: dict[str, Plain]) -> str:
    """`FILE:LINE`, as editors count, of a line that is counted over all files.

    Args:
        values: of a plan, see `refuse_repeated`.
    """
    file = [each for each in values['files'] if each['first'] <= line][-1]
    return f'{file["name"]}:{line - file["first"] + 1}'


def refuse_nothing(receipts: Iterator[dict]) -> None:
    """Raise a DataError, with the most frequent reason, if no row became a record."""
    counts: Counter[str] = Counter()
    for receipt in receipts:
        counts.update(receipt['counts'])
    if not counts['records']:
        reasons = Counter({name: count for name, count in counts.items() if name.startswith('rejected: ')})
        listed = ''.join(f' {count:,} {name}.' for name, count in reasons.most_common(1))
        raise DataError(f'no row is a record.{listed} See rejected.parquet, and the arguments of the stage.')
