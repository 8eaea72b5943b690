"""The stage that reads a table of one's own, CSV, TSV or Parquet -> records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.checks import check_choice, check_flag, check_number, check_text, check_whole
from clear.core.errors import ConfigError, DataError, nearest
from clear.core.files import regular_file
from clear.curation.manifest import Plan, StageFolder
from clear.curation.metadata.inputs import ListedFiles
from clear.curation.metadata.own.delimited import Delimited
from clear.curation.metadata.own.parquet_table import MAGIC, ParquetTable
from clear.curation.metadata.own.reading import KEPT_COLUMNS, OWN_SCHEMA, Columns, own_records
from clear.curation.metadata.own.table_parts import Part, Table, TableRows
from clear.curation.metadata.own.times import TimeFormat, time_formats
from clear.curation.metadata.writing import refuse_nothing, refuse_repeated, write_batches
from clear.curation.stage import Inputs, Job, Stage
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Plain

_DELIMITERS = {'.csv': ',', '.tsv': '\t', '.tab': '\t'}
_PACKED = ('.gz', '.bz2')


@STAGES.register_module()
class TableRecords(Stage):
    """Records of a table with a column of addresses or of paths and one of times.

    A file in Parquet is seen by its first bytes; any other has its columns' names in the first line. A row without
    address and path, whose time fits no format, or whose id is none, is rejected with its line and reason; a row of CSV
    begins at a line, so that `line` is what an editor shows, less one. Ids may not repeat.

    Args:
        files, root: as of `Metadata`.
        time: column of the time that buckets are cut by: `uploaded_at` of the records.
        time_format: a format (`own.times.TimeFormat`) or a list of which the first that fits counts; not for a column
            of Parquet that holds times.
        url, path: column of the address, and of the path below the root that the images are read from; one of them.
        id: column of a whole number; none = the number of the row's line.
        ids: 'number', or 'text': the id is the number of the row's line then, and the text goes to `source_id`.
        taken, taken_format: column of the time on the camera's clock, and its formats.
        utc_offset_hours: what a clock without zone in `time` is ahead of UTC.
        keep: column of the records (title, description, nickname, device, user_id, page_url, license_name,
            license_url, lon, lat) -> column of the table.
        delimiter: None = by the suffix, `.csv` or `.tsv`.
        quotes: whether cells of text may be quoted as in RFC 4180; None = unless the delimiter is a TAB.
        shard_rows: rows of one shard.

    Raises:
        ConfigError: for values that cannot be.
    """

    MAKES = 'records'
    PACKAGES = ('pyarrow', 'duckdb')
    EXECUTION = frozenset({'files', 'root'})

    def __init__(self, files: str | Sequence[str], time: str, time_format: str | Sequence[str] | None = None,
                 url: str | None = None, path: str | None = None, id: str | None = None, ids: str = 'number',
                 taken: str | None = None, taken_format: str | Sequence[str] | None = None,
                 utc_offset_hours: float = 0.0, keep: Mapping[str, str] | None = None, delimiter: str | None = None,
                 quotes: bool | None = None, root: str = '.', shard_rows: int = 1_000_000):
        self._listed = ListedFiles(files, root)
        self.shard_rows = check_whole('shard_rows', shard_rows, 1)
        if url is None and path is None:
            raise ConfigError("a table needs a column of addresses, url='...', or of paths, path='...'.")
        check_choice('ids', ids, ('number', 'text'))
        if ids == 'text' and id is None:
            raise ConfigError("ids='text' needs the column of the ids: id='...'.")
        if taken is None and taken_format is not None:
            raise ConfigError("taken_format needs the column: taken='...'.")
        names = {key: '' if value is None else check_text(key, value)
                 for key, value in dict(time=time, taken=taken, url=url, path=path, id=id).items()}
        self.columns = Columns(**names, time_formats=_formats('time_format', time_format),
                               taken_formats=_formats('taken_format', taken_format), has_text_ids=ids == 'text',
                               utc_offset_hours=check_number('utc_offset_hours', utc_offset_hours, -24, 24),
                               keep=_kept(keep or {}))
        if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter.encode()) != 1
                                      or delimiter in '"\r\n'):
            raise ConfigError(f'delimiter is {delimiter!r}; expected one sign such as , ; or a TAB.')
        self.delimiter, self.quotes = delimiter, quotes if quotes is None else check_flag('quotes', quotes)

    def check(self) -> None:
        """Look at the names of the columns, and at the first row."""
        for path in self._listed.paths():
            with self._open(path) as table:
                self._check_columns(table)
                self._check_formats(table)

    def sources(self) -> Mapping[str, Plain]:
        """Name and size of every file; the plan has the checksums."""
        return self._listed.sizes()

    def preview(self) -> list[str]:
        """What became of the first rows of every file."""
        lines = []
        for path in self._listed.paths():
            with self._open(path) as table:
                counts: Counter[str] = Counter()
                for rows in table.rows(None, self.columns.names()):
                    batch = own_records(rows, self.columns, 0)
                    counts.update(Counter(records=len(batch.records)) + batch.noted)
                    counts.update(f'rejected: {reason}' for reason in batch.rejected.values())
                    break
            found = '  '.join(f'{name} {count:,}' for name, count in counts.items())
            lines.append(f'{path.name}  first rows  {found or "none"}')
        return lines

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """Count the rows of every file, and cut them into ranges."""
        shards, files, jobs, first = [], [], [], 0
        for number, path in enumerate(self._listed.paths()):
            with self._open(path) as table:
                survey = table.survey(self.shard_rows)
                places = range(len(shards), len(shards) + len(survey.parts))
                shards += [dict(file=number, **part._asdict()) for part in survey.parts]
                jobs += [list(places)] if table.is_sequential else [[place] for place in places]
                files.append(dict(name=path.name, sha256=survey.sha256, lines=survey.lines, first=first))
            first += survey.lines
        if not shards:
            raise DataError(f'{", ".join(each["name"] for each in files)}: there are no rows below the names.')
        return Plan(shards, dict(files=files, lines=first), [job for job in jobs if job])

    def work(self, job: Job) -> Iterator[int]:
        """Read the rows of each range."""
        paths = self._listed.paths()
        opened: Table | None = None
        try:
            for shard in job.shards:
                todo = dict(job.plan.shards[shard])
                file = todo.pop('file')
                if opened is None or opened.path != paths[file]:
                    if opened is not None:
                        opened.close()
                    opened = self._open(paths[file])
                first = job.plan.values['files'][file]['first']
                with job.writing(shard) as attempt:
                    write_batches(attempt, (own_records(rows, self.columns, first) for rows in
                                            opened.rows(Part(**todo), self.columns.names())), OWN_SCHEMA)
                yield shard
        finally:
            if opened is not None:
                opened.close()

    def finish(self, folder: StageFolder, plan: Plan) -> Mapping[str, Plain]:
        """Refuse ids that are there twice, and a table of which no row is a record.

        Raises:
            DataError: naming some, with their lines; or the most frequent reason.
        """
        refuse_nothing(folder.receipt(shard) for shard in range(len(plan.shards)))
        refuse_repeated(folder, plan, 'source_id' if self.columns.has_text_ids else 'id')
        return {}

    def _open(self, path: Path) -> Table:
        with regular_file(path).open('rb') as file:
            if file.read(len(MAGIC)) == MAGIC:
                return ParquetTable(path)
        suffix = path.with_suffix('').suffix if path.suffix.lower() in _PACKED else path.suffix
        delimiter = self.delimiter or _DELIMITERS.get(suffix.lower())
        if delimiter is None:
            raise ConfigError(f"{path}: its suffix is none of {', '.join(_DELIMITERS)}, and it is no Parquet; say what "
                              "ends a cell: delimiter=','.")
        return Delimited(path, delimiter, delimiter != '\t' if self.quotes is None else self.quotes)

    def _check_columns(self, table: Table) -> None:
        known = table.names()
        for name in self.columns.names():
            if name not in known:
                near = nearest(name, known)
                hint = f'Did you mean {near}?' if near else f'There are {", ".join(known)}.'
                raise DataError(f"{table.path} has no column '{name}'. {hint}")
            if known.count(name) > 1:
                raise DataError(f"{table.path} has {known.count(name)} columns called '{name}'.")

    def _check_formats(self, table: Table) -> None:
        """Raise a ConfigError if the formats are not of the kind of the columns, or the first id is no number."""
        first = next(table.rows(None, self.columns.names()), None)
        for key, name, formats in (('time_format', self.columns.time, self.columns.time_formats),
                                   ('taken_format', self.columns.taken, self.columns.taken_formats)):
            if not name or table.has_times(name) != bool(formats):
                continue
            if formats:
                raise ConfigError(f"{table.path}: column '{name}' holds times, so that {key} means nothing; leave it "
                                  'out.')
            raise ConfigError(f"{table.path}: column '{name}' is text such as '{_example(first, name)}'; say what it "
                              f"means: {key}='%Y-%m-%d %H:%M:%S'.")
        name = self.columns.id
        if name and not self.columns.has_text_ids and not _example(first, name).isdigit():
            raise ConfigError(f"{table.path}: column '{name}' has '{_example(first, name)}', which is no whole number. "
                              "For ids of text: ids='text'.")


def _example(rows: TableRows | None, name: str) -> str:
    """The first value of a column, shortened; '1' without rows."""
    found = next((value for value in rows.columns[name].to_pylist() if value), b'') if rows is not None else b'1'
    return (found.decode('utf-8', 'replace') if isinstance(found, bytes) else str(found))[:40]


def _formats(where: str, given: str | Sequence[str] | None) -> list[TimeFormat]:
    return [] if given is None else time_formats(where, given)


def _kept(given: Mapping[str, str]) -> dict[str, str]:
    for name, column in given.items():
        if name not in KEPT_COLUMNS:
            near = nearest(name, KEPT_COLUMNS)
            hint = f'Did you mean {near}?' if near else f'There are {", ".join(KEPT_COLUMNS)}.'
            raise ConfigError(f"keep: records have no column '{name}' to be filled. {hint}")
        check_text(f'keep.{name}', column)
    return dict(given)
