"""The stage that says of every record in which time bucket it is: an index, never a copy of the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pyarrow
from pyarrow import compute, parquet

from clear.core.checks import check_choice, check_flag, check_number
from clear.core.errors import ConfigError
from clear.curation.buckets.ranges import Range, Subset, places
from clear.curation.buckets.rules import made_rule
from clear.curation.download.kept import kept_images
from clear.curation.filters import KEPT, RECORD_OUTCOMES, micros, record_codes
from clear.curation.manifest import TEMPORARY, Finished, Plan, StageFolder
from clear.curation.queries import querying, tables
from clear.curation.stage import Inputs, Job, Stage
from clear.registry import STAGES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from clear.core.types import Options, Plain

BUCKETS = 'buckets.parquet'
SCHEMA = pyarrow.schema([('id', pyarrow.int64()), ('bucket', pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
                         ('moment', pyarrow.timestamp('us', tz='UTC'))])
_BY = ('uploaded_at', 'taken_at')
# Kind of what is read -> its file, and its columns beside `id` and the times.
_ROWS = 1 << 17
_OF = dict(records=('records.parquet', ['is_video']), images=('images.parquet', []))
_NO_TIME = 'no time'


@STAGES.register_module()
class TimeBuckets(Stage):
    """Cut records, or the images that were fetched of them, into time buckets.

    Args:
        rule: `dict(type='Equal', buckets=11)`, `dict(type='Calendar', every='year', first='2004', last='2014')`,
            `dict(type='Periods', periods=FILE)` or `dict(type='Quantile', buckets=11, where=CONDITION)`, see
            `clear.curation.buckets.rules`.
        of: 'records' or 'images'. Equal buckets of records are no longer equal when some cannot be fetched.
        by: 'uploaded_at' (UTC), or 'taken_at', the camera's local time, which is read as if it were UTC.
        valid_dates, date_tolerance_hours: see `clear.curation.filters.outcome_codes`; of records, by default True.
            Images were looked at before they were fetched, and none of them is left out. Videos always are.

    Raises:
        ConfigError: for values that cannot be.
    """

    READS = ('records',)
    MAKES = 'buckets'
    VERSION = 2
    PACKAGES = ('pyarrow', 'duckdb')

    def __init__(self, rule: Options, of: str = 'records', by: str = 'uploaded_at', valid_dates: bool | None = None,
                 date_tolerance_hours: float = 0.0):
        self.rule = made_rule(rule)
        self.of = check_choice('of', of, _OF)
        self.by = check_choice('by', by, _BY)
        if of == 'images' and (valid_dates or date_tolerance_hours):
            raise ConfigError("valid_dates and date_tolerance_hours are of records; of='images' takes every image.")
        self.valid_dates = of == 'records' if valid_dates is None else check_flag('valid_dates', valid_dates)
        self.date_tolerance_hours = check_number('date_tolerance_hours', date_tolerance_hours, 0)

    @property
    def reads(self) -> tuple[str, ...]:
        """Records, or images."""
        return (self.of,)

    def check(self) -> None:
        """Look for the files of the rule."""
        self.rule.sources()

    def sources(self) -> Mapping[str, Plain]:
        """What the rule reads."""
        return self.rule.sources()

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """Find the cuts; one shard for each of the input's."""
        source = inputs[self.of]
        if not self.rule.NEEDS_ORDER:
            ranges = self.rule.ranges(None, 0)
        else:
            with querying(folder.path / TEMPORARY) as connection:
                count = self._fill(connection, source)
                ranges = self.rule.ranges(_ordered(connection), count)
        return Plan([{} for _ in range(len(source))], dict(ranges=[asdict(each) for each in ranges]))

    def work(self, job: Job) -> Iterator[int]:
        """Look up the bucket of each record of a shard."""
        ranges = [Range(**each) for each in job.plan.values['ranges']]
        names = pyarrow.array([each.name for each in ranges], pyarrow.string())
        for shard in job.shards:
            keys, counts = self._kept(job.inputs[self.of], shard)
            ids, moments = keys['id'].to_numpy(), keys['moment'].to_numpy()
            found = places(ranges, moments, ids)
            inside = found >= 0
            buckets = pyarrow.DictionaryArray.from_arrays(pyarrow.array(found[inside], pyarrow.int32()), names)
            index = pyarrow.table([pyarrow.array(ids[inside]), buckets,
                                   pyarrow.array(moments[inside]).cast(SCHEMA.field('moment').type)], SCHEMA)
            is_local = keys['is_local'].to_numpy()
            with job.writing(shard) as attempt:
                parquet.write_table(index, attempt.folder / BUCKETS, compression='zstd')
                attempt.counts.update(inside=int(inside.sum()), outside=int((~inside).sum()),
                                      local=int(is_local[inside].sum()), **counts)
            yield shard

    def finish(self, folder: StageFolder, plan: Plan) -> Mapping[str, Plain]:
        """What the buckets are of, by which time, and each with its count, its first and its last."""
        shards = range(len(plan.shards))
        files = [folder.shard_folder(shard) / BUCKETS for shard in shards]
        with querying(folder.path / TEMPORARY) as connection:
            rows = connection.execute(f"SELECT bucket, count(*), strftime(min(moment), '%Y-%m-%d %H:%M:%S'), "
                                      f"strftime(max(moment), '%Y-%m-%d %H:%M:%S') FROM {tables(files)} GROUP BY bucket"
                                      ).fetchall()
        found = {name: dict(count=count, first=first, last=last) for name, count, first, last in rows}
        buckets = {each['name']: found.get(each['name'], dict(count=0, first=None, last=None))
                   for each in plan.values['ranges']}
        inside, local = (sum(folder.receipt(shard)['counts'][name] for shard in shards) for name in ('inside', 'local'))
        zone = 'UTC' if not local else 'local time of the camera' if local == inside else 'of the camera or UTC'
        return dict(of=self.of, by=self.by, zone=zone, buckets=buckets)

    def report(self, finished: Finished) -> list[str]:
        """A line for every bucket, and one that names those in which nothing is."""
        summary = finished.summary
        lines = [f'by {summary["by"]} ({summary["zone"]}) of {summary["of"]}']
        lines += [f'{name:>8}  {each["count"]:>12,}  {each["first"] or "-"} .. {each["last"] or "-"}'
                  for name, each in summary['buckets'].items()]
        empty = [name for name, each in summary['buckets'].items() if not each['count']]
        lines += [f'EMPTY: nothing is in bucket {", ".join(empty)}'] if empty else []
        return lines + super().report(finished)

    def _kept(self, source: Finished, shard: int) -> tuple[pyarrow.Table, Counter]:
        """What of a shard is cut: `id`, `moment` (microseconds) and `is_local`, and how many are left out for what."""
        name, more = _OF[self.of]
        columns = ['id', 'uploaded_at', 'taken_at', 'taken_at_is_local', *more]
        found = kept_images(source, shard, columns) if self.of == 'images' else \
            parquet.read_table(source.file(shard, name), columns=columns)
        parts, counts = [self._kept_of(found.slice(0, 0), Counter())], Counter()
        for start in range(0, len(found), _ROWS):  # what is made on the way is small
            parts.append(self._kept_of(found.slice(start, _ROWS), counts))
        return pyarrow.concat_tables(parts), counts

    def _kept_of(self, found: pyarrow.Table, counts: Counter) -> pyarrow.Table:
        outcome = np.zeros(len(found), np.uint8)
        if self.of == 'records':
            outcome = record_codes(found, self.valid_dates, self.date_tolerance_hours)
        outcome[(outcome == 0) & found[self.by].is_null().to_numpy()] = len(RECORD_OUTCOMES)
        sizes = np.bincount(outcome, minlength=len(RECORD_OUTCOMES) + 1).tolist()
        counts.update({name: count for name, count in zip((*RECORD_OUTCOMES, _NO_TIME), sizes)
                       if count and name != KEPT})
        found = found.filter(pyarrow.array(outcome == 0))
        is_local = compute.fill_null(found['taken_at_is_local'], False) if self.by == 'taken_at' else \
            pyarrow.array(np.zeros(len(found), bool))
        return pyarrow.table(dict(id=found['id'], moment=micros(found[self.by]), is_local=is_local))

    def _fill(self, connection: DuckDBPyConnection, source: Finished) -> int:
        """Put what decides into the table `keys`; how many that are."""
        connection.execute('CREATE TABLE keys (moment BIGINT, id BIGINT)')
        subset = self.rule.subset
        if subset is not None:
            connection.execute(f'CREATE TABLE subset AS SELECT DISTINCT id FROM {_subset(subset, connection)}'
                               if subset.ids is not None else 'CREATE TABLE subset (id BIGINT)')
        for shard in range(len(source)):
            kept, _ = self._kept(source, shard)
            connection.register('kept', kept)
            if subset is not None and subset.where is not None:
                file = tables([source.file(shard, _OF[self.of][0])])
                _check_condition(connection, file, subset.where)
                connection.execute('DELETE FROM subset')
                connection.execute(f'INSERT INTO subset SELECT id FROM {file} WHERE ({subset.where})')
            chosen = ' WHERE id IN (SELECT id FROM subset)' if subset is not None else ''
            connection.execute(f'INSERT INTO keys SELECT moment, id FROM kept{chosen}')
            connection.unregister('kept')
        return connection.execute('SELECT count(*) FROM keys').fetchall()[0][0]


def _check_condition(connection: DuckDBPyConnection, records: str, where: str) -> None:
    import duckdb

    try:
        connection.execute(f'SELECT id FROM {records} WHERE ({where}) LIMIT 0')
    except (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException) as error:
        reason = str(error).partition('\n')[0]
        raise ConfigError(f'rule.where is {where!r}, which is no condition on records: {reason}') from None


def _subset(subset: Subset, connection: DuckDBPyConnection) -> str:
    """The relation that holds the ids of a subset."""
    if isinstance(subset.ids, str):
        return f'(SELECT CAST(id AS BIGINT) AS id FROM {tables([subset.ids])})'
    connection.register('given', pyarrow.table(dict(id=pyarrow.array(subset.ids, pyarrow.int64()))))
    return 'given'


def _ordered(connection: DuckDBPyConnection) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(times, ids) of `keys`, sorted by time and id; what does not fit into memory is spilled."""
    for batch in connection.sql('SELECT moment, id FROM keys ORDER BY moment, id').to_arrow_reader(1 << 20):
        yield batch['moment'].to_numpy(), batch['id'].to_numpy()
