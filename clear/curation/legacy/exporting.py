"""Finished stages as the earlier curation wrote them: bucket files, and trees of chunks in both generations.

Everything is streamed: DuckDB joins and sorts, what is in memory is a few thousand records.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from pyarrow import parquet

from clear.core.errors import ConfigError, DataError
from clear.core.files import atomic_writer, inside, write_json
from clear.curation.buckets.stage import BUCKETS
from clear.curation.download.kept import LEFT_OUT, left_out_file
from clear.curation.export.joining import Source
from clear.curation.export.original import originals, read_columns
from clear.curation.export.placing import place_all
from clear.curation.images import IMAGES
from clear.curation.legacy.pickles import pickled
from clear.curation.manifest import Finished
from clear.curation.metadata.writing import RECORDS
from clear.curation.queries import querying, tables

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from clear.core.types import Plain

CHUNK_SIZE = 50_000
_BATCH = 4096
_PIECE = 1 << 20


class Row(NamedTuple):
    """A record in CLEAR's keys with its image, if there are any, and its line in the metadata."""

    record: dict[str, Plain]
    source: Source | None
    line: int

    @property
    def chunk(self) -> str:
        return str(self.line // CHUNK_SIZE)

    @property
    def name(self) -> str:
        """Of its image in a chunk."""
        suffix = Path(self.source.path).suffix if self.source is not None else f'.{self.record["EXT"] or "jpg"}'
        return str(inside('.', f'{self.record["ID"]}{suffix}').name)


class Stages:
    """What is exported, as relations.

    Args:
        records, images, buckets: finished stages; without images, records name the place that an image would have.
        spill: a folder for what does not fit into memory.
    """

    def __init__(self, records: Finished, images: Finished | None, buckets: Finished | None, spill: Path):
        self.records, self.images, self.buckets, self.spill = records, images, buckets, spill

    def rows(self, connection: DuckDBPyConnection, bucket: str | None) -> Iterator[Row]:
        """Records in the order of time in a bucket, else in the order of lines, each with its image."""
        files = self.records.files(RECORDS)
        if not files:
            raise DataError(f'{self.records.folder.path} has no {RECORDS}.')
        known = read_columns(parquet.read_schema(files[0]).names)
        image = ', '.join(f'i."{name}"' for name in Source._fields) if self.images is not None else \
            ', '.join(f'NULL AS "{name}"' for name in Source._fields)
        record = ', '.join(f'{name} := r.{name}' for name in known)
        query = f'SELECT {image}, r.line, struct_pack({record}) AS record FROM {tables(files)} r'
        if self.images is not None:
            query += f' JOIN {self._kept()} i ON r.id = i.id'
        if bucket is not None:
            query += f' JOIN {tables(self.buckets.files(BUCKETS))} b ON r.id = b.id WHERE b.bucket = ?'
        order = 'b.moment, b.id' if bucket is not None else 'r.line, r.id'
        reader = connection.sql(f'{query} ORDER BY {order}', params=None if bucket is None else [bucket]
                                ).to_arrow_reader(_BATCH)
        for batch in reader:
            places: Sequence[Source | None] = [None] * len(batch)
            if self.images is not None:
                places = [Source(*cells) for cells in zip(*(batch[name].to_pylist() for name in Source._fields))]
            yield from map(Row, originals(batch['record']), places, batch['line'].to_pylist())

    def positions(self, connection: DuckDBPyConnection) -> None:
        """Number everything that is exported in the order of lines, from 0: the table `positions`."""
        source = tables(self.records.files(RECORDS)) if self.images is None else self._kept()
        connection.execute(f'CREATE TABLE positions AS SELECT id, row_number() OVER (ORDER BY line, id) - 1 AS place '
                           f'FROM {source}')

    def _kept(self) -> str:
        """The images as a relation, without copies and stand-ins."""
        files = tables(self.images.files(IMAGES))
        out = [left_out_file(self.images.folder, entry['shard']) for entry in self.images.summary.get(LEFT_OUT, ())]
        return f'(SELECT * FROM {files} WHERE id NOT IN (SELECT id FROM {tables(out)}))' if out else files

    def image_place(self, row: Row, root: Path | None) -> dict[str, Plain]:
        """`IMG_DIR` and `IMG_PATH` of a record.

        Args:
            root: of a tree that was or will be exported; None = images stay where they are.
        """
        if root is None and row.source is not None:
            if row.source.shard is not None:
                raise DataError(f'{self.images.folder.path} holds its images in archives. Export them too, with '
                                '--tree.')
            return dict(IMG_DIR=str(self.images.folder.path.resolve()), IMG_PATH=row.source.path)
        return dict(IMG_DIR=str(root / row.chunk / 'images'), IMG_PATH=row.name)


def export_buckets(stages: Stages, out: Path, name: str | None = None, tree: bool = False) -> list[Path]:
    """Write `bucket_<name>.json` of all buckets, and `bucket_<name>/<bucket>/bucket_<b>.json` of each.

    Args:
        name: by default the earlier system's for the rule: the number of equal buckets, `by_year`, `by_<periods file>`.
        tree: whether the images are in a tree at `out`.

    Returns:
        the files, that of all buckets first.
    """
    summary = stages.buckets.summary['buckets']
    name = name or bucket_file_name(stages.buckets)
    root = out.resolve() if tree or stages.images is None else None
    files = []
    with querying(stages.spill) as connection:
        stages.positions(connection)
        for place, bucket in enumerate(summary):
            folder = out.resolve() / f'bucket_{name}' / (bucket if re.fullmatch(r'[\w-]+', bucket) else str(place))
            file = folder / f'bucket_{place}.json'
            with atomic_writer(file, 'w') as writer:
                _write_bucket(stages, connection, bucket, folder, root, writer)
            files.append(file)
    whole = out / f'bucket_{name}.json'
    with atomic_writer(whole) as writer:
        for place, file in enumerate(files):
            writer.write(b'%s"%d": ' % (b', ' if place else b'{', place))
            with file.open('rb') as one:
                shutil.copyfileobj(one, writer, _PIECE)
        writer.write(b'}')
    return [whole, *files]


def bucket_file_name(buckets: Finished) -> str:
    """`11`, `by_year` or `by_<stem of the periods file>`, as the earlier system called them."""
    rule = buckets.manifest['config'].get('rule', {})
    if rule.get('type', 'Equal') == 'Equal':  # imported buckets say nothing of their rule
        return str(len(buckets.summary['buckets']))
    if rule.get('type') == 'Calendar':
        return f'by_{rule.get("every", "year")}'
    if rule.get('type') == 'Periods' and isinstance(rule['periods'], str):
        return f'by_{Path(rule["periods"]).stem}'
    return f'by_{rule["type"].lower()}'


def _write_bucket(stages: Stages, connection: DuckDBPyConnection, bucket: str, folder: Path, root: Path | None,
                  writer: IO[str]) -> None:
    chosen = (f'FROM {tables(stages.buckets.files(BUCKETS))} b JOIN positions p ON b.id = p.id WHERE b.bucket = ? '
              'ORDER BY b.moment, b.id')
    writer.write('{"indices": [')
    _write_list(writer, (str(place) for batch in connection.sql(f'SELECT p.place {chosen}', params=[bucket]
                                                                ).to_arrow_reader(_BATCH)
                         for place in batch['place'].to_pylist()))
    writer.write('], "all_metadata": [')
    _write_list(writer, (json.dumps(row.record | stages.image_place(row, root))
                         for row in stages.rows(connection, bucket)))
    writer.write('], ')
    uploaded = (f'FROM {tables(stages.records.files(RECORDS))} r JOIN {tables(stages.buckets.files(BUCKETS))} b '
                'ON r.id = b.id JOIN positions p ON b.id = p.id WHERE b.bucket = ?')
    ends = connection.execute(f'SELECT epoch_us(min(r.uploaded_at)), epoch_us(max(r.uploaded_at)) {uploaded}',
                              [bucket]).fetchall()[0]
    told = dict(folder_path=str(folder), min_date=_date(ends[0]), max_date=_date(ends[1]))
    writer.write(json.dumps(told)[1:-1] + ', "date_uploaded_list": [')
    seconds = connection.sql(f'SELECT epoch_us(r.uploaded_at) // 1000000 AS s {uploaded} ORDER BY b.moment, b.id',
                             params=[bucket]).to_arrow_reader(_BATCH)
    _write_list(writer, (f'"{second}"' for batch in seconds for second in batch['s'].to_pylist()))
    writer.write(']}')


def export_tree(stages: Stages, out: Path, how: str = 'hardlink', generation: int = 2) -> list[Path]:
    """Write `<chunk>/images/`, the records of each chunk and `all_folders.*`, which comes last.

    A chunk holds `CHUNK_SIZE` lines of the metadata, whether or not they have an image.

    Args:
        how: 'hardlink', 'symlink' or 'copy'; images in archives are always copied.
        generation: 2 writes JSON, 1 the pickles that stood before.

    Raises:
        ConfigError: if a tree lies there.
    """
    there = [name for name in ('all_folders.json', 'all_folders.pickle') if (out / name).exists()]
    if there:
        raise ConfigError(f'{out / there[0]} is there already. Choose another folder.')
    if stages.images is None:
        raise ConfigError('A tree holds images: give the stage that fetched them.')
    folders: dict[str, dict[str, Plain]] = {}
    for stale in out.glob('.tree.*'):
        shutil.rmtree(stale)
    with querying(stages.spill) as connection:
        rows = stages.rows(connection, None)
        waiting: list[Row] = []
        for chunk, part in _by_chunk(rows, waiting):
            folder = out.resolve() / chunk
            if folder.exists():
                shutil.rmtree(folder)  # of a run that was stopped: the list of chunks is not there
            name = 'metadata.json' if generation == 2 else 'metadata.pickle'
            count = _write_chunk(stages, part, folder, name, how, generation)
            folders[chunk] = dict(folder=str(folder), num_images=count, image_folder=str(folder / 'images'),
                                  metadata_location=str(folder / name))
    if generation == 2:
        write_json(out / 'all_folders.json', folders)
        return [out / 'all_folders.json']
    held = [('FlickrFolder', dict(idx=int(chunk), last_index=(int(chunk) + 1) * CHUNK_SIZE, **values))
            for chunk, values in folders.items()]
    with atomic_writer(out / 'all_folders.pickle') as writer:
        writer.writelines(pickled([held]))
    return [out / 'all_folders.pickle']


def _by_chunk(rows: Iterator[Row], waiting: list[Row]) -> Iterator[tuple[str, Iterator[Row]]]:
    """(number of a chunk, its rows): those of one must be read before the next is asked for."""
    first = next(rows, None)
    if first is not None:
        waiting.append(first)
    while waiting:
        chunk = waiting[0].chunk
        yield chunk, _of_chunk(chunk, rows, waiting)


def _of_chunk(chunk: str, rows: Iterator[Row], waiting: list[Row]) -> Iterator[Row]:
    while waiting and waiting[0].chunk == chunk:
        yield waiting.pop()
        following = next(rows, None)
        if following is not None:
            waiting.append(following)


def _write_chunk(stages: Stages, part: Iterator[Row], folder: Path, name: str, how: str, generation: int) -> int:
    """Images and records of a chunk, batch by batch; how many."""
    count = 0
    root = stages.images.folder.path
    (folder / 'images').mkdir(parents=True)

    def batches() -> Iterator[list[dict[str, Plain]]]:
        nonlocal count
        while rows := list(islice(part, _BATCH)):
            place_all(root, folder / 'images', folder / 'images', [(row.name, row.source) for row in rows], how)
            count += len(rows)
            yield [row.record | dict(IMG_DIR=str(folder / 'images'), IMG_PATH=row.name) for row in rows]

    with atomic_writer(folder / name, 'w' if generation == 2 else 'wb') as writer:
        if generation == 2:
            writer.write('[')
            _write_list(writer, (json.dumps(record) for batch in batches() for record in batch))
            writer.write(']')
        else:
            writer.writelines(pickled([_first_generation(record) for record in batch] for batch in batches()))
    return count


def _first_generation(record: dict[str, Plain]) -> tuple[str, dict]:
    """A record as `Metadata` with a `MetadataObject`, whose IMG_PATH is absolute."""
    record = record | dict(IMG_PATH=f'{record["IMG_DIR"]}/{record["IMG_PATH"]}', IMG_DIR=None)
    return 'Metadata', dict(metadata=('MetadataObject', record))


def _write_list(writer: IO[str], items: Iterator[str]) -> None:
    for place, item in enumerate(items):
        writer.write(f', {item}' if place else item)


def _date(micros: int | None) -> str | None:
    return None if micros is None else str(datetime.fromtimestamp(micros // 1_000_000, UTC).replace(tzinfo=None))
