"""The stage that reads metadata: any public form of YFCC100M's files -> typed records, and the lines that are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow
from pyarrow import parquet

from clear.core.checks import check_whole
from clear.core.errors import ConfigError, DataError, printable
from clear.curation.filters import KEPT, NO_DATE, outcomes
from clear.curation.manifest import TEMPORARY, Attempt, Plan, StageFolder
from clear.curation.metadata import cells
from clear.curation.metadata.records import COLUMNS, REJECTED, SCHEMA, WIDE_COLUMNS, Batch, from_cells
from clear.curation.metadata.streams import LineFile
from clear.curation.queries import querying, tables
from clear.curation.stage import Inputs, Job, Stage
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Plain

RECORDS, REJECTS = 'records.parquet', 'rejected.parquet'
_LAYOUTS = {len(COLUMNS): COLUMNS, len(WIDE_COLUMNS): WIDE_COLUMNS}


@STAGES.register_module()
class Metadata(Stage):
    """YFCC100M's tab-separated metadata (spec of its columns: `records.SCHEMA`), plain, gzip or bzip2, one file or ten.

    Only LF ends a row and only TAB a cell: a quote, a CR or a NUL in a title is part of the title. Files with 23
    columns and those with row number and hash in front (25) are told apart by looking. A row without a readable id,
    upload time, address or marker is rejected with its line and reason, and so is a line above 1 MiB; any other cell
    that cannot be read is null, and counted. Ids may not repeat.

    Args:
        files: a path or a pattern with `*`, or a list of these; of a pattern in the order of names.
        root: what relative ones are relative to.
        shard_rows: lines of one shard.

    Raises:
        ConfigError: for values that cannot be.
    """

    MAKES = 'records'
    PACKAGES = ('pyarrow', 'duckdb')
    EXECUTION = frozenset({'files', 'root'})  # names and contents of the files are in the plan

    def __init__(self, files: str | Sequence[str], root: str = '.', shard_rows: int = 1_000_000):
        self.patterns = [files] if isinstance(files, str) else list(files)
        if not self.patterns or not all(isinstance(name, str) and name for name in self.patterns):
            raise ConfigError(f'files is {files!r}; expected a path, a pattern or a list of these.')
        check_whole('shard_rows', shard_rows, 1)
        self.root, self.shard_rows = Path(root), shard_rows

    def files(self) -> list[Path]:
        """The files in order.

        Raises:
            DataError: if a pattern finds nothing, or a file is there twice.
        """
        found: list[Path] = []
        for pattern in self.patterns:
            names = sorted(self.root.glob(pattern)) if any(sign in pattern for sign in '*?[') else [self.root / pattern]
            if not names:
                raise DataError(f'{self.root / pattern} finds no file.')
            found += names
        if len(set(found)) < len(found):
            twice = next(path for path in found if found.count(path) > 1)
            raise DataError(f'{twice} is listed twice in files.')
        return found

    def check(self) -> None:
        """Look at the first line of every file."""
        for path in self.files():
            columns_of(path)

    def sources(self) -> Mapping[str, Plain]:
        """Name and size of every file; the plan has the checksums."""
        return {path.name: path.stat().st_size for path in self.files()}

    def preview(self) -> list[str]:
        """Count what the files hold: only the cells that decide about a record are read."""
        counts, years = Counter(), Counter()
        for path in self.files():
            for key in read_keys(path):
                kept = key.uploaded_at[key.outcome == KEPT].astype('datetime64[us]').astype('datetime64[Y]')
                for counter, values in ((counts, key.outcome), (years, kept)):
                    found, sizes = np.unique(values, return_counts=True)
                    counter.update(dict(zip(map(str, found), sizes.tolist())))
        return ['  '.join(f'{name} {count:,}' for name, count in sorted(counts.items())),
                'kept by year of upload  ' + '  '.join(f'{year} {count:,}' for year, count in sorted(years.items()))]

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """Count the lines of every file, and cut them into ranges."""
        shards, files, jobs, first = [], [], [], 0
        for number, path in enumerate(self.files()):
            with LineFile(path) as file:
                survey = file.survey(self.shard_rows)
                jobs.append([])
                for place, end in zip(survey.marks, [*survey.marks[1:], survey.bytes]):
                    jobs[-1].append(len(shards))
                    shards.append(dict(file=number, first=first + (len(jobs[-1]) - 1) * self.shard_rows, place=place,
                                       end=end))
                if not file.is_packed:  # each range can be read by itself
                    jobs[-1:] = [[shard] for shard in jobs[-1]]
            files.append(dict(name=path.name, sha256=survey.sha256, lines=survey.lines, first=first,
                              columns=len(columns_of(path))))
            first += survey.lines
        return Plan(shards, dict(files=files, lines=first), [job for job in jobs if job])

    def work(self, job: Job) -> Iterator[int]:
        """Type the lines of each range."""
        paths, opened = self.files(), None
        try:
            for shard in job.shards:
                todo = job.plan.shards[shard]
                path = paths[todo['file']]
                if opened is None or opened.path != path:
                    if opened is not None:
                        opened.__exit__()
                    opened = LineFile(path)
                columns = _LAYOUTS[job.plan.values['files'][todo['file']]['columns']]
                with job.writing(shard) as attempt:
                    write_batches(attempt, read_batches(opened, columns, todo['first'], todo['place'], todo['end']))
                yield shard
        finally:
            if opened is not None:
                opened.__exit__()

    def finish(self, folder: StageFolder, plan: Plan) -> Mapping[str, Plain]:
        """Refuse ids that are there twice.

        Raises:
            DataError: naming some, with their lines.
        """
        files = [folder.shard_folder(shard) / RECORDS for shard in range(len(plan.shards))]
        with querying(folder.path / TEMPORARY) as connection:
            twice = connection.execute(f'SELECT id, min(line), max(line) FROM {tables(files)} GROUP BY id '
                                       'HAVING count(*) > 1 ORDER BY min(line) LIMIT 3').fetchall()
        if twice:
            listed = '; '.join(f'id {found} in {self._place(first, plan)} and {self._place(last, plan)}'
                               for found, first, last in twice)
            raise DataError(f'an id stands for one photo, but: {listed}. Leave one of the lines out.')
        return {}

    def _place(self, line: int, plan: Plan) -> str:
        file = [each for each in plan.values['files'] if each['first'] <= line][-1]
        return f'{file["name"]}:{line - file["first"] + 1}'


def columns_of(path: Path) -> tuple[str, ...]:
    """The columns of a file, by its first line.

    Raises:
        DataError: if it is empty or has another number of columns.
    """
    with LineFile(path) as file:
        block = next(file.blocks(0, 0, 1 << 16), None)
    if block is None or not block.data:
        raise DataError(f'{path} has no lines.')
    line = block.data.split(b'\n', 1)[0]
    found = line.split(b'\t')
    if len(found) not in _LAYOUTS:
        text = printable(line[:60].decode('utf-8', 'replace'))
        raise DataError(f"{path}: its first line '{text}…' has {len(found)} columns; expected "
                        f'{" or ".join(map(str, _LAYOUTS))}, separated by TABs.')
    return _LAYOUTS[len(found)]


class Keys(NamedTuple):
    """What decides about the records of a block.

    Attributes:
        ids, uploaded_at, taken_at: (N,) int64, microseconds since 1970.
        outcome: (N,) text as of `record_outcomes`, or 'rejected' where the record itself cannot be read.
    """

    ids: np.ndarray
    uploaded_at: np.ndarray
    taken_at: np.ndarray
    outcome: np.ndarray


def read_keys(path: Path) -> Iterator[Keys]:
    """The keys of all lines of a file straight from its bytes, some thousands at a time."""
    columns = columns_of(path)
    places = [columns.index(name) for name in ('photoid', 'dateuploaded', 'marker', 'datetaken', 'downloadurl')]
    with LineFile(path) as file:
        for block in file.blocks(0):
            found = cells.cut(block.data, len(columns))
            ids, uploaded, marker = (cells.integers(found.spans(place)) for place in places[:3])
            taken, has_date = cells.times(found.spans(places[3]))
            url = found.spans(places[4])
            is_record = ids[1] & uploaded[1] & marker[1] & (marker[0] <= 1) & (url.ends > url.starts)
            outcome = outcomes(marker[0] == 1, np.where(has_date, taken, NO_DATE), uploaded[0] * 1_000_000)
            outcome[~is_record] = 'rejected'
            lost = np.full(len(block.too_long) + len(found.wrong), 'rejected')
            nothing = np.zeros(len(lost), np.int64)
            yield Keys(*(np.concatenate([values, nothing]) for values in (ids[0], uploaded[0] * 1_000_000, taken)),
                       np.concatenate([outcome, lost]))


def read_batches(file: LineFile, columns: tuple[str, ...], first: int, place: int, end: int) -> Iterator[Batch]:
    """Records of a range of lines, some thousands at a time."""
    for block in file.blocks(first, place, end):
        batch = from_cells(cells.cut(block.data, len(columns)), columns, block.numbers)
        batch.rejected.update(dict.fromkeys(block.too_long, 'longer than 1 MiB'))
        yield batch


def write_batches(attempt: Attempt, batches: Iterator[Batch]) -> None:
    """Records and rejected lines of a shard as Parquet, with their counts."""
    counts: Counter[str] = Counter(records=0, rejected=0)
    rejected: dict[int, str] = {}
    with parquet.ParquetWriter(attempt.folder / RECORDS, SCHEMA, compression='zstd') as writer:
        for batch in batches:
            writer.write_table(batch.records)
            counts['records'] += len(batch.records)
            counts['videos'] += int(batch.records['is_video'].to_numpy().sum())
            counts.update({f'unreadable {name}': count for name, count in batch.unreadable.items() if count})
            rejected |= batch.rejected
    lines = sorted(rejected)
    parquet.write_table(pyarrow.table([lines, [rejected[line] for line in lines]], schema=REJECTED),
                        attempt.folder / REJECTS, compression='zstd')
    counts['rejected'] = len(lines)
    counts.update(f'rejected: {_kind(reason)}' for reason in rejected.values())
    attempt.counts.update(counts)


def _kind(reason: str) -> str:
    return 'wrong number of columns' if ' columns in place of ' in reason else reason
