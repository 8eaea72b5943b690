"""The stage that gives records what the side files of YFCC100M say of them."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow
from pyarrow import compute, parquet

from clear.core.checks import check_text
from clear.core.errors import ConfigError, DataError, printable
from clear.core.files import sha256_of
from clear.curation.manifest import TEMPORARY, Finished, Plan, StageFolder
from clear.curation.metadata.records import Batch
from clear.curation.metadata.side.join import Sorted, sort_side
from clear.curation.metadata.side.kinds import KINDS
from clear.curation.metadata.streams import LineFile
from clear.curation.metadata.writing import RECORDS, REJECTS, write_batches
from clear.curation.stage import Inputs, Job, Stage
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Plain

SIDE_REJECTS = 'side_rejected.parquet'
_REJECTED = pyarrow.schema([('file', pyarrow.string()), ('line', pyarrow.int64()), ('reason', pyarrow.string())])
_BATCH = 8192


@STAGES.register_module()
class SideFiles(Stage):
    """Records with what side files say of them, joined by id, whatever the order of the lines.

    A record without a line keeps null; of lines with one id the first counts; lines whose id no record has, lines that
    are none, and records without a line are counted, and the second kind is in `side_rejected.parquet` of the first
    shard. The files are sorted on the disk, once in every run that has a shard to do: room for them unpacked is needed.

    Args:
        autotags: of lines `ID TAB concept:score,...`: column `auto_tags`.
        exif: of lines `ID TAB key:value,...`, url-encoded: `exif`, the bytes, and `exif_text`, the pairs decoded.
        hash: of lines `ID TAB hash`: `hash`, in place of the one made of the address; how many differ is counted.
        lines: of lines `LINE TAB ID`: `line_number`.
        root: what relative paths are relative to.

    Raises:
        ConfigError: without any file.
    """

    READS = ('records',)
    MAKES = 'records'
    PACKAGES = ('pyarrow', 'duckdb')
    EXECUTION = frozenset({'root', *KINDS})  # names and contents of the files are in the plan

    def __init__(self, autotags: str | None = None, exif: str | None = None, hash: str | None = None,
                 lines: str | None = None, root: str = '.'):
        given = dict(autotags=autotags, exif=exif, hash=hash, lines=lines)
        self.files = {kind: Path(root) / check_text(kind, path) for kind, path in given.items() if path is not None}
        if not self.files:
            raise ConfigError(f'SideFiles needs one of {", ".join(KINDS)}: the path of a file.')

    def check(self) -> None:
        """Look at the first line of every file."""
        for kind, path in self.files.items():
            with LineFile(path) as file:
                line = file.first_line()
            cells = line.split(b'\t')
            at = KINDS[kind].id_cell
            if len(cells) > 2 or len(cells) <= at or not cells[at].isdigit():
                text = printable(line[:60].decode('utf-8', 'replace'))
                raise DataError(f"{path}: its first line '{text}…' is not of {kind}: expected "
                                f"{'LINE TAB ID' if at else 'ID TAB ...'}.")

    def sources(self) -> Mapping[str, Plain]:
        """Kind, name and size of every file; the plan has the checksums."""
        return {f'{kind}: {path.name}': path.stat().st_size for kind, path in self.files.items()}

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """A shard for each of the records', all for one worker, which reads the side files from front to back."""
        files = [dict(kind=kind, name=path.name, sha256=sha256_of(path)) for kind, path in self.files.items()]
        count = len(inputs['records'])
        return Plan([{} for _ in range(count)], dict(files=files), [list(range(count))])

    def work(self, job: Job) -> Iterator[int]:
        """Sort the files by the records' lines, and put what they hold beside each shard's records."""
        records = job.inputs['records']
        place = job.folder.path / TEMPORARY
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, prefix='side.') as temporary, ExitStack() as opened:
            folder = Path(temporary)
            totals = self._sort(records, folder)
            sides = {kind: opened.enter_context(Sorted(folder / f'{kind}.parquet')) for kind in self.files}
            for shard in job.shards:
                with job.writing(shard) as attempt:
                    source = parquet.ParquetFile(records.file(shard, RECORDS))
                    schema = self._schema(source.schema_arrow)
                    write_batches(attempt, self._batches(records, shard, source, sides, schema), schema)
                    if shard == 0:
                        (folder / SIDE_REJECTS).rename(attempt.folder / SIDE_REJECTS)
                        attempt.counts.update(totals)
                yield shard

    def _sort(self, records: Finished, folder: Path) -> Counter[str]:
        totals: Counter[str] = Counter()
        with parquet.ParquetWriter(folder / SIDE_REJECTS, _REJECTED, compression='zstd') as writer:
            for kind, path in self.files.items():
                def reject(found: Mapping[int, str], name: str = path.name) -> None:
                    if found:
                        lines = sorted(found)
                        writer.write_table(pyarrow.table([[name] * len(lines), lines, [found[line] for line in lines]],
                                                         _REJECTED))

                counts = sort_side(path, KINDS[kind], records, folder / f'{kind}.parquet', reject)
                totals.update({f'{kind}: {name}': count for name, count in counts.items()})
        return totals

    def _schema(self, schema: pyarrow.Schema) -> pyarrow.Schema:
        for kind in self.files:
            for field in KINDS[kind].fields:
                at = schema.get_field_index(field.name)
                schema = schema.set(at, field) if at >= 0 else schema.append(field)
        return schema

    def _batches(self, records: Finished, shard: int, source: parquet.ParquetFile, sides: Mapping[str, Sorted],
                 schema: pyarrow.Schema) -> Iterator[Batch]:
        """The records of a shard with their new columns, and the lines that were rejected before."""
        rejected = parquet.read_table(records.file(shard, REJECTS))
        lost = Batch(schema.empty_table(), dict(zip(*(rejected[name].to_pylist() for name in ('line', 'reason')))))
        yield lost
        for found in source.iter_batches(_BATCH):
            batch = Batch(pyarrow.Table.from_batches([found]))
            columns = dict(zip(found.schema.names, found.columns))
            for kind, side in sides.items():
                values, more = side.take(found['line'].to_numpy())
                arrays, unreadable = KINDS[kind].typed(values)
                batch.noted.update(unreadable)  # `+=` would drop the zeros
                batch.noted.update({f'{kind}: records': int(values.is_valid().sum().as_py()),
                                    f'{kind}: records without': values.null_count, f'{kind}: repeated': more})
                for field, array in zip(KINDS[kind].fields, arrays):
                    if field.name in columns and kind == 'hash':
                        batch.noted['hash: differs'] += _differing(columns[field.name], array)
                        array = compute.coalesce(array, columns[field.name])
                    columns[field.name] = array
            batch.records = pyarrow.table([columns[name] for name in schema.names], schema)
            yield batch


def _differing(one: pyarrow.Array, other: pyarrow.Array) -> int:
    return int(np.count_nonzero(compute.not_equal(one, other).fill_null(False).to_numpy(zero_copy_only=False)))
