"""Which records and images belong to what was selected, or to a bucket: joined by id, streamed in their order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow
from pyarrow import parquet

from clear.core.errors import DataError
from clear.curation.download.kept import left_out_files
from clear.curation.export.original import originals, read_columns
from clear.curation.queries import querying, tables

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from clear.core.types import Plain
    from clear.curation.stage import Inputs

SELECTION, IMAGES, RECORDS, BUCKETS = 'selection.parquet', 'images.parquet', 'records.parquet', 'buckets.parquet'
_BATCH = 4096
_SUFFIX = re.compile(r'\.[A-Za-z0-9]{1,8}\Z')
_IMAGE = ('i.path, i.shard, i."offset", i.bytes, i.sha256, i.format')


class Source(NamedTuple):
    """Where the bytes of an image are, below the folder of the stage that made it.

    Attributes:
        path: the file; of an image in an archive its name there.
        shard: the archive; None of a file.
        offset: where it begins in the archive.
        bytes: how many there are.
        sha256: of them; None if unknown.
    """

    path: str
    shard: str | None
    offset: int | None
    bytes: int | None
    sha256: str | None


class Photo(NamedTuple):
    """An image with its record.

    Attributes:
        name: `<ID>.<EXT>`.
        record: see `clear.curation.export.original`.
    """

    name: str
    source: Source
    record: dict[str, Plain]


class Chosen(NamedTuple):
    """A photo of a class.

    Attributes:
        score: the true cosine.
        is_background: whether it was taken for being unlike its prompt.
    """

    photo: Photo
    label: str
    score: float
    is_background: bool


def chosen_photos(inputs: Inputs, shard: int, names: Sequence[str], folder: Path) -> Iterator[Chosen]:
    """What was selected in a shard of the selection, class after class in the order of `names`, each by its ranks.

    Args:
        folder: below which DuckDB may spill.

    Raises:
        DataError: if a class has no name, or what was selected has no image or no record.
    """
    with querying(folder) as connection:
        places = pyarrow.table(dict(label=pyarrow.array(names, pyarrow.string()), place=range(len(names))))
        connection.register('places', places)
        selected = inputs['selection'].file(shard, SELECTION)
        connection.execute(f'CREATE TEMP TABLE chosen AS SELECT * FROM {tables([selected])}')
        _none_lacks(connection, "SELECT '''' || label || '''' FROM chosen ANTI JOIN places USING (label)",
                    f'{selected} has classes that its stage does not name')
        # Inner joins, which DuckDB builds on the side that is known to be small.
        connection.execute(f'CREATE TEMP TABLE found AS SELECT s.*, {_IMAGE} FROM {_all(inputs, "images", IMAGES)} i '
                           'JOIN chosen s ON i.id = s.id')
        connection.execute(f'CREATE TEMP TABLE told AS SELECT s.*, {_record(inputs)} FROM '
                           f'{_all(inputs, "records", RECORDS)} r JOIN found s ON r.id = s.id')
        for table, what in (('found', 'images'), ('told', 'records')):
            _none_lacks(connection, f'SELECT id FROM chosen ANTI JOIN {table} USING (id) ORDER BY rank, id',
                        f'{selected} was made of other {what}: these lack some of its ids')
            _none_lacks(connection, f'SELECT id FROM {table} GROUP BY id, label HAVING count(*) > 1 ORDER BY id',
                        f'the {what} have some ids twice')
        reader = connection.sql('SELECT told.* FROM told JOIN places USING (label) ORDER BY place, rank, id'
                                ).to_arrow_reader(_BATCH)
        for batch in reader:
            kinds = zip(*(batch[name].to_pylist() for name in ('label', 'score', 'kind')))
            for photo, (label, score, kind) in zip(_photos(batch), kinds):
                yield Chosen(photo, label, score, kind == 'background')


def photos_of_bucket(inputs: Inputs, bucket: str, folder: Path) -> Iterator[Photo]:
    """All photos of a bucket that have an image of their own, by (moment, id)."""
    images, copies = _all(inputs, 'images', IMAGES), left_out_files(inputs['images'])
    if copies:
        images = f'(SELECT * FROM {images} ANTI JOIN (SELECT id FROM {tables(copies)}) USING (id))'
    with querying(folder) as connection:
        reader = connection.sql(
            f'SELECT {_IMAGE}, {_record(inputs)} FROM {_all(inputs, "buckets", BUCKETS)} b '
            f'JOIN {images} i ON b.id = i.id JOIN {_all(inputs, "records", RECORDS)} r '
            'ON b.id = r.id WHERE b.bucket = ? ORDER BY b.moment, b.id', params=[bucket]).to_arrow_reader(_BATCH)
        for batch in reader:
            yield from _photos(batch)


def _photos(batch: pyarrow.RecordBatch) -> Iterator[Photo]:
    places = [Source(*cells) for cells in zip(*(batch[name].to_pylist() for name in Source._fields))]
    for source, kind, record in zip(places, batch['format'].to_pylist(), originals(batch['record'])):
        # The file says what it is; the record's own EXT is that of the original, of which this may be another size.
        suffix = _SUFFIX.search(source.path)
        yield Photo(f'{record["ID"]}{suffix[0] if suffix else "." + (kind or "jpg").lower()}', source, record)


def _all(inputs: Inputs, kind: str, name: str) -> str:
    files = inputs[kind].files(name)
    if not files:
        raise DataError(f'{inputs[kind].folder.path} has no {name}.')
    return tables(files)


def _record(inputs: Inputs) -> str:
    """What is read of a record `r`, as one column."""
    files = inputs['records'].files(RECORDS)
    known = parquet.read_schema(files[0]).names if files else ()
    return f'struct_pack({", ".join(f"{name} := r.{name}" for name in read_columns(known))}) AS record'


def _none_lacks(connection: DuckDBPyConnection, query: str, message: str) -> None:
    found = connection.execute(f'SELECT count(*), first(c1) FROM ({query}) AS t(c1)').fetchall()[0]
    if found[0]:
        raise DataError(f'{message}: {found[0]:,}, first {found[1]}.')
