"""The stage that says of every record in which time bucket it is: an index, never a copy of the records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow
from pyarrow import parquet

from clear.core.checks import check_choice, check_flag, check_number
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError
from clear.curation.buckets.rules import RULES, Range, Rule, places
from clear.curation.filters import KEPT, micros, record_outcomes
from clear.curation.manifest import TEMPORARY, Finished, Plan, StageFolder
from clear.curation.queries import querying, tables
from clear.curation.stage import Inputs, Job, Stage
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Options, Plain

BUCKETS = 'buckets.parquet'
SCHEMA = pyarrow.schema([('id', pyarrow.int64()), ('bucket', pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
                         ('moment', pyarrow.timestamp('us', tz='UTC'))])
_BY = ('uploaded_at', 'taken_at')
_COLUMNS = ('id', 'is_video', 'taken_at', 'uploaded_at')


@STAGES.register_module()
class TimeBuckets(Stage):
    """Cut records into time buckets.

    Args:
        rule: `dict(type='Equal', buckets=11)`, `dict(type='Calendar', every='year', first='2004', last='2014')` or
            `dict(type='Periods', periods=FILE)`, see `clear.curation.buckets.rules`.
        by: 'uploaded_at' (UTC), or 'taken_at', the camera's local time, which is read as if it were UTC.
        valid_dates, date_tolerance_hours: see `clear.curation.filters.record_outcomes`. Videos are always left out.

    Raises:
        ConfigError: for values that cannot be.
    """

    READS = ('records',)
    MAKES = 'buckets'
    PACKAGES = ('pyarrow', 'duckdb')

    def __init__(self, rule: Options, by: str = 'uploaded_at', valid_dates: bool = True,
                 date_tolerance_hours: float = 0.0):
        self.rule = _rule(rule)
        self.by = check_choice('by', by, _BY)
        self.valid_dates = check_flag('valid_dates', valid_dates)
        self.date_tolerance_hours = check_number('date_tolerance_hours', date_tolerance_hours, 0)

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """Find the cuts; one shard for each of the records'."""
        records = inputs['records']
        count, ordered = 0, None
        if self.rule.NEEDS_ORDER:
            count = sum(len(self._kept(records, shard)) for shard in range(len(records)))
            ordered = self._ordered(records, folder.path / TEMPORARY)
        ranges = self.rule.ranges(ordered, count)
        return Plan([{} for _ in range(len(records))], dict(ranges=[asdict(each) for each in ranges]))

    def work(self, job: Job) -> Iterator[int]:
        """Look up the bucket of each record of a shard."""
        ranges = [Range(**each) for each in job.plan.values['ranges']]
        names = pyarrow.array([each.name for each in ranges], pyarrow.string())
        for shard in job.shards:
            keys = self._kept(job.inputs['records'], shard)
            ids, moments = keys['id'].to_numpy(), keys['moment'].to_numpy()
            found = places(ranges, moments, ids)
            inside = found >= 0
            buckets = pyarrow.DictionaryArray.from_arrays(pyarrow.array(found[inside], pyarrow.int32()), names)
            index = pyarrow.table([pyarrow.array(ids[inside]), buckets,
                                   pyarrow.array(moments[inside]).cast(SCHEMA.field('moment').type)], SCHEMA)
            with job.writing(shard) as attempt:
                parquet.write_table(index, attempt.folder / BUCKETS, compression='zstd')
                attempt.counts.update(inside=int(inside.sum()), outside=int((~inside).sum()))
            yield shard

    def finish(self, folder: StageFolder, plan: Plan) -> Mapping[str, Plain]:
        """Every bucket with its count, its first and its last time."""
        files = [folder.shard_folder(shard) / BUCKETS for shard in range(len(plan.shards))]
        with querying(folder.path / TEMPORARY) as connection:
            rows = connection.execute(f"SELECT bucket, count(*), strftime(min(moment), '%Y-%m-%d %H:%M:%S'), "
                                      f"strftime(max(moment), '%Y-%m-%d %H:%M:%S') FROM {tables(files)} GROUP BY bucket"
                                      ).fetchall()
        found = {name: dict(count=count, first=first, last=last) for name, count, first, last in rows}
        return dict(buckets={each['name']: found.get(each['name'], dict(count=0, first=None, last=None))
                             for each in plan.values['ranges']})

    def report(self, finished: Finished) -> list[str]:
        """A line for every bucket."""
        return [f'{name:>8}  {each["count"]:>12,}  {each["first"] or "-"} .. {each["last"] or "-"}'
                for name, each in finished.summary['buckets'].items()] + super().report(finished)

    def _kept(self, records: Finished, shard: int) -> pyarrow.Table:
        """`id` and `moment` (microseconds) of the records of a shard that are photos with a valid date."""
        found = parquet.read_table(records.file(shard, 'records.parquet'), columns=list(_COLUMNS))
        kept = record_outcomes(found, self.valid_dates, self.date_tolerance_hours) == KEPT
        if self.by == 'taken_at':
            kept &= found['taken_at'].is_valid().to_numpy()
        found = found.filter(pyarrow.array(kept))
        return pyarrow.table(dict(id=found['id'], moment=micros(found[self.by])))

    def _ordered(self, records: Finished, folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(times, ids) of all kept records, sorted by time and id; what does not fit into memory is spilled."""
        with querying(folder) as connection:
            connection.execute('CREATE TABLE keys (moment BIGINT, id BIGINT)')
            for shard in range(len(records)):
                kept = self._kept(records, shard)
                connection.register('kept', kept)
                connection.execute('INSERT INTO keys SELECT moment, id FROM kept')
                connection.unregister('kept')
            reader = connection.sql('SELECT moment, id FROM keys ORDER BY moment, id').to_arrow_reader(1 << 20)
            for batch in reader:
                yield batch['moment'].to_numpy(), batch['id'].to_numpy()


def _rule(given: Options) -> Rule:
    if not isinstance(given, Mapping) or given.get('type') not in RULES:
        raise ConfigError(f"rule is {given!r}; expected a dict with type, one of {', '.join(RULES)}.")
    options = {key: value for key, value in given.items() if key != 'type'}
    made = RULES[given['type']]
    check_keys('rule', options, set(made.__dataclass_fields__), given['type'])
    return made(**options)
