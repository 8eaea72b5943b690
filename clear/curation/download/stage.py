"""The stage that fetches the images of records, keeps them as they were served, and says what became of each."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow
from pyarrow import parquet

from clear.core.checks import check_choice, check_flag, check_number, check_whole
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError, DataError
from clear.curation.download.kept import LEFT_OUT, find_left_out, left_out_file
from clear.curation.download.limits import Limits
from clear.curation.download.outcomes import TEMPORARY
from clear.curation.download.shards import former
from clear.curation.download.shards.fetching import Desk, Passes, fetch, run_apart
from clear.curation.download.shards.ledger import LEDGER, Ledger, writing_to
from clear.curation.download.shards.pairs import write_pairs
from clear.curation.download.shards.rates import Rates
from clear.curation.download.shards.reports import bad_dates_by_zone, by_year, lines, zone_line
from clear.curation.download.shards.verdicts import RECORD_COLUMNS, Filters
from clear.curation.download.shards.writing import COPIED, FILES, write_shard
from clear.curation.download.sources import source_of
from clear.curation.filters import KEPT
from clear.curation.manifest import FORMER, Finished, Plan, StageFolder
from clear.curation.metadata.records import SCHEMA as RECORDS_SCHEMA
from clear.curation.stage import Inputs, Job, Stage
from clear.datasets.images.decode import MAX_PIXELS
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Options, Plain
    from clear.curation.download.client import Client

RECORDS = 'records.parquet'
STORES = ('tar', 'files')
_SHA256 = re.compile('[0-9a-f]{64}')
# Of the limits, what decides which images there are.
_DECIDING = ('max_bytes', 'robots', 'opt_out', 'placeholders')


@STAGES.register_module()
class Download(Stage):
    """Fetch the images of records.

    Filters, in this order: date, video; then, of what was fetched, known stand-ins, header, edge, aspect, bytes. When
    all shards are there, copies and frequent stand-ins (`clear.curation.download.kept`).

    Args:
        source: `dict(type='Web')`, the records' addresses; `dict(type='MMCommons')`, `dict(type='Mirror', root=...)` or
            `dict(type='Folder', root=...)`, see `clear.curation.download.sources`.
        store: 'tar', one for each shard, or 'files', at most 2,000 in a folder.
        shard_rows: records of one shard.
        valid_dates, date_tolerance_hours, min_date, max_date: of the record; days as '2004-01-01', both included.
        min_edge, max_aspect_ratio, min_bytes, max_pixels: see `Filters`.
        placeholder_sha256: of known stand-ins; their addresses are `limits.placeholders`.
        drop_duplicates: leave out images that equal one of an earlier line, byte for byte.
        max_same: images of which there are more than so many are stand-ins for removed photos; 0 = never.
        limits: how much may be asked of hosts, network and memory, see `clear.curation.download.limits.Limits`.
        sync_every: records that a kill may lose of a shard, besides those under way.
        passes: how often a shard's records are gone through; only what failed for the time being is tried again.
        pass_wait_s: before the second pass; doubled for each that follows, and `limits.breaker_s` at least if a host is
            left alone.
        max_failed: share of a shard's records that may have failed for the time being when it is published. Above it
            the run ends; the next goes on with those that failed.
        retry_failed: take up a stage that is finished, and fetch what had failed for the time being.

    Raises:
        ConfigError: for values that cannot be.
    """

    READS = ('records',)
    MAKES = 'images'
    PACKAGES = ('pyarrow', 'duckdb', 'Pillow')
    EXECUTION = frozenset({'source', 'limits', 'sync_every', 'passes', 'pass_wait_s', 'max_failed', 'retry_failed'})

    def __init__(self, source: Options | None = None, *, store: str = 'tar', shard_rows: int = 10_000,
                 valid_dates: bool = True, date_tolerance_hours: float = 0.0, min_date: str | None = None,
                 max_date: str | None = None, min_edge: int = 0, max_aspect_ratio: float = 0.0, min_bytes: int = 10,
                 max_pixels: int = MAX_PIXELS, placeholder_sha256: Sequence[str] = (), drop_duplicates: bool = True,
                 max_same: int = 20, limits: Options | None = None, sync_every: int = 64, passes: int = 2,
                 pass_wait_s: float = 5.0, max_failed: float = 0.25, retry_failed: bool = False):
        self.source = source_of(dict(type='Web') if source is None else source)
        self.store = check_choice('store', store, STORES)
        self.shard_rows = check_whole('shard_rows', shard_rows, 1)
        self.filters = Filters(
            check_flag('valid_dates', valid_dates), check_number('date_tolerance_hours', date_tolerance_hours, 0),
            _day('min_date', min_date), _day('max_date', max_date), check_whole('min_edge', min_edge, 0),
            check_number('max_aspect_ratio', max_aspect_ratio, 0), check_whole('min_bytes', min_bytes, 0),
            check_whole('max_pixels', max_pixels, 1), _digests(placeholder_sha256))
        if 0 < max_aspect_ratio < 1:
            raise ConfigError(f'max_aspect_ratio is {max_aspect_ratio}; longer by shorter side is never below 1.')
        self.drop_duplicates = check_flag('drop_duplicates', drop_duplicates)
        self.max_same = check_whole('max_same', max_same, 0)
        if limits is not None and not isinstance(limits, Mapping):
            raise ConfigError(f'limits is {limits!r}; expected dict(connections=...) or the like.')
        check_keys('limits', set(limits or {}), {each.name for each in fields(Limits)}, 'Limits')
        self.limits = Limits(**(limits or {}))
        self.sync_every = check_whole('sync_every', sync_every, 1)
        self.passes = Passes(check_whole('passes', passes, 1), check_number('pass_wait_s', pass_wait_s, 0),
                             self.limits.breaker_s)
        self.max_failed = check_number('max_failed', max_failed, 0, 1)
        self.retry_failed = check_flag('retry_failed', retry_failed)

    def check(self) -> None:
        """Look for the source's root, and for the packages."""
        self.source.check()
        if self.source.IS_REMOTE:
            _client_class()

    def sources(self) -> Mapping[str, Plain]:
        """What kind of source it is, and the limits that decide which images there are; no root and no host."""
        found: dict[str, Plain] = dict(source=self.source.identity())
        if self.source.IS_REMOTE:
            found['limits'] = {name: _plain(getattr(self.limits, name)) for name in _DECIDING}
        return found

    def preview(self) -> list[str]:
        """Where images come from and who asks for them."""
        kind = self.source.identity()['type']
        if not self.source.IS_REMOTE:
            return [f'images from {self.source.root} ({kind})']
        return [f'images from {kind}, asked for as {self.limits.user_agent}']

    def most_workers(self) -> int | None:
        """As many as there are connections to one host."""
        return min(self.limits.connections, self.limits.host_connections) if self.source.IS_REMOTE else None

    def shares(self, workers: int) -> list[str]:
        """What each worker may ask of a host."""
        if not self.source.IS_REMOTE:
            return []
        share = self.limits.share(workers)
        rate = 'any rate' if share.host_rate is None else f'{share.host_rate:g} requests a second'
        return [f'each of {workers}: {share.connections} connections, of a host {share.host_connections} and {rate}']

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """Cut the records into ranges."""
        records, shards = inputs['records'], []
        for number in range(len(records)):
            rows = parquet.read_metadata(records.file(number, RECORDS)).num_rows
            shards += [dict(records=number, first=first, rows=min(self.shard_rows, rows - first))
                       for first in range(0, rows, self.shard_rows)]
        return Plan(shards, {})

    def work(self, job: Job) -> Iterator[int]:
        """Fetch what each shard lacks, then publish it.

        Raises:
            DataError: if too much of a shard failed for the time being.
            WriteError: if there is no room.
        """
        for shard in job.shards:
            if job.folder.receipt(shard) is None:
                self._do(job, shard)
            yield shard

    def _do(self, job: Job, shard: int) -> None:
        todo = job.plan.shards[shard]
        needed = dict.fromkeys((*COPIED, 'lon', *RECORD_COLUMNS, *self.source.COLUMNS))
        records = read_rows(job.inputs['records'].file(todo['records'], RECORDS), todo['first'], todo['rows'], needed)
        outcomes = self.filters.of_records(records)
        passed = np.flatnonzero(outcomes == KEPT)
        with Ledger(job.folder, shard, TEMPORARY) as ledger:
            former.take_over(job.folder, shard, ledger)
            lacking = [int(row) for row in passed if not ledger.is_final(int(row))]
            if lacking:
                self._fetch(job, shard, records, lacking, ledger)
            outcomes = outcomes.astype(object)
            outcomes[passed] = [ledger.entries[int(row)].outcome for row in passed]
            counts = Counter(outcomes.tolist())
            self._check_failed(shard, counts, len(passed), lacking)
            with writing_to(job.folder.path), job.writing(shard) as attempt:
                home = job.folder.shard_folder(shard).relative_to(job.folder.path).as_posix()
                write_shard(attempt.folder, home, self.store, records, outcomes, ledger)
                attempt.tabled.add(FILES)
                attempt.counts.update(records=len(records), **dict(sorted(counts.items())))
            ledger.remove_bodies()
            former.remove(job.folder, shard)

    def _fetch(self, job: Job, shard: int, records: pyarrow.Table, rows: Sequence[int], ledger: Ledger) -> None:
        columns = {name: records[name].to_pylist() for name in self.source.COLUMNS}
        limits = self.limits.share(job.workers) if self.source.IS_REMOTE else self.limits
        rates = Rates(f'shard {shard}', len(rows))

        async def run() -> None:
            desk = Desk(ledger, self.filters, self.sync_every, rates)
            try:
                if not self.source.IS_REMOTE:
                    await fetch(rows, record, self.source, None, desk, 8, self.passes)
                    return
                async with _client_class()(limits) as client:
                    # More than there are connections: some wait for a host that has its fill, and others go ahead.
                    await fetch(rows, record, self.source, client, desk, 2 * limits.connections, self.passes)
            finally:
                desk.close()

        def record(row: int) -> dict[str, str | int | None]:
            return {name: values[row] for name, values in columns.items()}

        try:
            run_apart(run)
        finally:
            rates.close()

    def _check_failed(self, shard: int, counts: Counter[str], asked: int, lacking: Collection[int]) -> None:
        failed = {name: count for name, count in counts.items() if name in TEMPORARY}
        if sum(failed.values()) > self.max_failed * asked:
            told = ', '.join(f'{name} {count:,}' for name, count in sorted(failed.items(), key=lambda item: -item[1]))
            raise DataError(f'shard {shard}: {sum(failed.values()):,} of {asked:,} images failed for the time being '
                            f'({told}). Stopped early. Run it again with --resume to retry only those, or take it as '
                            'it is with max_failed=1.')

    def finish(self, folder: StageFolder, plan: Plan) -> Mapping[str, Plain]:
        """Compare all images with each other; count every outcome, also by year of upload; list pairs in files."""
        out = find_left_out(folder, len(plan.shards), self.drop_duplicates, self.max_same)
        lists = [left_out_file(folder, entry['shard']) for entry in out]
        for path in (folder.path / LEDGER).glob('*/*.bodies'):  # of a process that was killed after it had published
            path.unlink()
        shutil.rmtree(folder.path / FORMER, ignore_errors=True)
        found: dict[str, Plain] = {LEFT_OUT: out, 'by_year': by_year(folder, len(plan.shards), lists),
                                   'bad_dates_by_zone': bad_dates_by_zone(folder, len(plan.shards))}
        if self.store == 'files':
            found['pairs'] = write_pairs(folder, len(plan.shards), lists)
        return found

    def report(self, finished: Finished) -> list[str]:
        """Every outcome with its years, and where photos with a bad date were taken."""
        zones = finished.summary['bad_dates_by_zone']
        return lines(finished.summary['by_year']) + ([zone_line(zones)] if zones else [])

    def redo(self, finished: Finished) -> list[int]:
        """With `retry_failed`, shards with records that failed for the time being."""
        if not self.retry_failed:
            return []
        return [entry['shard'] for entry in finished.manifest['shards'] if TEMPORARY.keys() & entry['counts'].keys()]


def read_rows(path: Path, first: int, count: int, columns: Collection[str]) -> pyarrow.Table:
    """A range of rows of a Parquet file; a column that it lacks is null."""
    file = parquet.ParquetFile(path)
    there = [name for name in columns if name in file.schema_arrow.names]
    pieces, at = [], 0
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if at < first + count and at + size > first:
            begin = max(first - at, 0)
            pieces.append(file.read_row_group(group, there).slice(begin, first + count - at - begin))
        at += size
    table = pyarrow.concat_tables(pieces).combine_chunks()
    for name in columns:
        if name not in there:
            kind = RECORDS_SCHEMA.field(name).type if name in RECORDS_SCHEMA.names else pyarrow.string()
            table = table.append_column(name, pyarrow.nulls(len(table), kind))
    return table


def _client_class() -> type[Client]:
    try:
        from clear.curation.download.client import Client
    except ImportError as error:
        raise ConfigError(f"Download needs {error.name}: pip install 'clear-framework[curate]'.") from error
    return Client


def _day(name: str, value: str | None) -> date | None:
    if value is None:
        return None
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} is {value!r}; expected a day such as '2004-01-31'.") from error


def _digests(values: Sequence[str]) -> frozenset[str]:
    if isinstance(values, str):
        raise ConfigError(f'placeholder_sha256 is {values!r}; expected a list.')
    wrong = [value for value in values if not isinstance(value, str) or not _SHA256.fullmatch(value)]
    if wrong:
        raise ConfigError(f'placeholder_sha256 has {wrong[0]!r}; expected 64 hex digits in small letters.')
    return frozenset(values)


def _plain(value: Plain | Sequence[str]) -> Plain:
    return list(value) if isinstance(value, tuple) else value
