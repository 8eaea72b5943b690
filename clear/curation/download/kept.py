"""Which images of a download stay: those that are not the copy of another, nor a stand-in for removed photos.

Only all shards together can tell, and a shard that is published does not change: what is left out is listed beside
them, in `STAGE/left_out/000003.parquet`, for those shards that have any.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow
from pyarrow import compute, parquet

from clear.core.errors import DataError
from clear.core.files import atomic_writer
from clear.curation.download.shards.verdicts import DUPLICATE, PLACEHOLDER
from clear.curation.download.shards.writing import IMAGES, OUTCOMES
from clear.curation.manifest import TEMPORARY, Finished, StageFolder
from clear.curation.queries import querying, tables

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from clear.core.types import Plain

LEFT_OUT = 'left_out'
SCHEMA = pyarrow.schema([('id', pyarrow.int64()), ('line', pyarrow.int64()), ('outcome', pyarrow.string())])
_ROWS = 1 << 17
_MEMORY = '256MB'  # above the base of the process; what sums take beyond it is spilled


def kept_images(finished: Finished, shard: int, columns: Sequence[str] | None = None) -> pyarrow.Table:
    """Rows of a shard's `images.parquet` in the order of lines, without those that are left out.

    Args:
        columns: to read; None = all.

    Raises:
        DataError: if the list of those that are left out is damaged.
    """
    path = finished.file(shard, IMAGES)
    out = left_out(finished, shard)
    if not len(out):
        return parquet.read_table(path, columns=None if columns is None else list(columns))
    images = parquet.read_table(path, columns=None if columns is None else list(dict.fromkeys([*columns, 'id'])))
    images = images.filter(compute.invert(compute.is_in(images['id'], value_set=out['id'].combine_chunks())))
    return images if columns is None else images.select(list(columns))


def final_outcomes(finished: Finished, shard: int) -> pyarrow.Table:
    """A shard's `outcomes.parquet` with what only all shards together could tell."""
    said = parquet.read_table(finished.file(shard, OUTCOMES))
    out = left_out(finished, shard)
    places = compute.index_in(said['id'], value_set=out['id'].combine_chunks())
    later = out['outcome'].combine_chunks().take(places.combine_chunks())
    column = compute.coalesce(later, said['outcome'].combine_chunks())
    return said.set_column(said.schema.get_field_index('outcome'), 'outcome', column)


def left_out(finished: Finished, shard: int) -> pyarrow.Table:
    """Id, line and outcome of the images of a shard that are left out.

    Raises:
        DataError: if the list is not the one that the manifest speaks of.
    """
    entry = next((each for each in finished.summary.get(LEFT_OUT, ()) if each['shard'] == shard), None)
    if entry is None:
        return SCHEMA.empty_table()
    path = left_out_file(finished.folder, shard)
    if not path.is_file() or path.stat().st_size != entry['bytes']:
        raise DataError(f'{path} is not as the manifest of {finished.folder.path} says. Make it again: remove the '
                        'manifest and go on with --resume.')
    return parquet.read_table(path)


def left_out_files(finished: Finished) -> list[Path]:
    """The lists of all shards that have one, for queries."""
    return [left_out_file(finished.folder, entry['shard']) for entry in finished.summary.get(LEFT_OUT, ())]


def find_left_out(folder: StageFolder, shards: int, duplicates: bool, max_same: int) -> list[dict[str, Plain]]:
    """Compare all images by their SHA-256 and list those that are left out; what the manifest should say of the lists.

    Of images that are equal the one of the first line stays; if there are more than `max_same` of them, none does.

    Args:
        shards: how many there are, all of them done.
        duplicates: whether copies are left out.
        max_same: more equal images are stand-ins; 0 = never.
    """
    shutil.rmtree(folder.path / LEFT_OUT, ignore_errors=True)
    if not shards or not duplicates and not max_same:
        return []
    files = [folder.shard_folder(shard) / IMAGES for shard in range(shards)]
    with querying(folder.path / TEMPORARY, _MEMORY) as connection:
        _compare(connection, files, duplicates, max_same)
        return [_write(folder, shard, pieces) for shard, pieces in _by_shard(connection)]


def _compare(connection: DuckDBPyConnection, files: Sequence[Path], duplicates: bool, max_same: int) -> None:
    """Fill the table `found` with shard, line, id and outcome of what is left out."""
    read = tables(files).removesuffix(')') + ', filename = true)'
    connection.execute(f'CREATE TABLE same AS SELECT sha256, min(line) AS first, count(*) AS copies FROM {read} '
                       'GROUP BY sha256 HAVING count(*) > 1')
    is_stand_in = f'copies > {int(max_same)}' if max_same else 'false'
    is_copy = 'line > first' if duplicates else 'false'
    connection.execute(
        f"CREATE TABLE found AS SELECT split_part(filename, '/', -2)::INTEGER AS shard, line, id, "
        f"CASE WHEN {is_stand_in} THEN '{PLACEHOLDER}' ELSE '{DUPLICATE}' END AS outcome "
        f'FROM {read} JOIN same USING (sha256) WHERE {is_stand_in} OR {is_copy}')


def _by_shard(connection: DuckDBPyConnection) -> Iterator[tuple[int, list[pyarrow.Table]]]:
    rows = connection.sql('SELECT shard, id, line, outcome FROM found ORDER BY shard, line').to_arrow_reader(_ROWS)
    last, pieces = -1, []
    for batch in rows:
        table = pyarrow.table(batch)
        for shard in compute.unique(table['shard']).to_pylist():
            if shard != last and pieces:
                yield last, pieces
                pieces = []
            last = shard
            pieces.append(table.filter(compute.equal(table['shard'], shard)).select(SCHEMA.names))
    if pieces:
        yield last, pieces


def _write(folder: StageFolder, shard: int, pieces: Sequence[pyarrow.Table]) -> dict[str, Plain]:
    path, rows = left_out_file(folder, shard), pyarrow.concat_tables(pieces).cast(SCHEMA)
    with atomic_writer(path) as file:
        parquet.write_table(rows, file, compression='zstd')
    content = path.read_bytes()
    return dict(shard=shard, rows=len(rows), bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def left_out_file(folder: StageFolder, shard: int) -> Path:
    """Where the list of a shard lies, if it has one."""
    return folder.path / LEFT_OUT / f'{shard:06d}.parquet'
