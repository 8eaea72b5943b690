"""Trees and bucket files of the earlier curation into folders of finished stages: records, images and buckets."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow
from pyarrow import parquet

from clear.core.errors import ConfigError, DataError
from clear.core.files import read_bytes, write_json
from clear.curation.buckets.stage import BUCKETS
from clear.curation.buckets.stage import SCHEMA as BUCKETS_SCHEMA
from clear.curation.download.images import Header, image_header
from clear.curation.images import IMAGES
from clear.curation.legacy.records import RECORDS_SCHEMA, as_batch, image_path, lines_of
from clear.curation.legacy.sources import Record, Source
from clear.curation.manifest import MANIFEST, PLAN, SCHEMA, TEMPORARY, Attempt, Plan, StageFolder, manifest_of
from clear.curation.metadata.writing import RECORDS, refuse_nothing, write_batches
from clear.curation.queries import querying, tables

if TYPE_CHECKING:
    from clear.core.types import Plain

FOLDERS = dict(records='metadata', images='download', buckets='time_buckets')
HOW = ('hardlink', 'copy')
MISSING = 'missing'
MOST_IMAGE_BYTES = 256 << 20
_A_FOLDER = 2000
_SHOWN = 10
_TIME = pyarrow.timestamp('us', tz='UTC')
IMAGES_SCHEMA = pyarrow.schema([
    ('id', pyarrow.int64()), ('line', pyarrow.int64()), ('uploaded_at', _TIME), ('taken_at', pyarrow.timestamp('us')),
    ('taken_at_is_local', pyarrow.bool_()), ('path', pyarrow.string()), ('shard', pyarrow.string()),
    ('offset', pyarrow.int64()), ('bytes', pyarrow.int64()), ('width', pyarrow.int32()), ('height', pyarrow.int32()),
    ('format', pyarrow.string()), ('sha256', pyarrow.string())])
OUTCOMES_SCHEMA = pyarrow.schema([('id', pyarrow.int64()), ('line', pyarrow.int64()), ('uploaded_at', _TIME),
                                  ('outcome', pyarrow.string())])


@dataclass
class Survey:
    """What a source holds.

    Attributes:
        records: how many.
        buckets: their names in order, with how many; empty if the source has none.
        missing: images that are not there, some of them by their old path.
        missing_count: how many.
        sha256: of all files that were read.
    """

    records: int = 0
    buckets: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    missing_count: int = 0
    sha256: str = ''


def survey(source: Source) -> Survey:
    """Go through all records, and look whether their images are there; nothing is written.

    Raises:
        DataError: if a file is damaged, or only some records are in buckets.
    """
    found = Survey()
    for bucket, record in source.records():
        found.records += 1
        if bucket is not None:
            found.buckets[bucket] += 1
        file = source.places.now(image_path(record)) if image_path(record) else None
        if file is None or not file.is_file():
            found.missing_count += 1
            if len(found.missing) < _SHOWN:
                found.missing.append(f'{record["ID"]}: {image_path(record) or "no IMG_PATH"}')
    digest = hashlib.sha256()
    for file in source.files:
        with file.open('rb') as opened:
            digest.update(hashlib.file_digest(opened, 'sha256').digest())
    found.sha256 = digest.hexdigest()
    return found


def import_stages(source: Source, found: Survey, out: Path, how: str = 'hardlink', shard_rows: int = 10_000,
                  overwrite: bool = False) -> dict[str, Path]:
    """Write the stages; kind -> its folder. A run that was killed is gone on with.

    Args:
        found: of the same source.
        out: their folders lie in `out/stages`.
        how: images come as hard links, which take no room, or as copies.
        overwrite: replace what lies there.

    Raises:
        ConfigError: if something else lies there.
        DataError: if an id is there twice, or nothing is a record.
    """
    kinds = [kind for kind in FOLDERS if kind != 'buckets' or found.buckets]
    folders = {kind: StageFolder(out / 'stages' / FOLDERS[kind]) for kind in kinds}
    count = -(-found.records // shard_rows)
    plan = Plan([{} for _ in range(count)], dict(ranges=[], lines=found.records))
    for kind, folder in folders.items():
        stored = dict(schema=SCHEMA, stage=f'Legacy {kind}', config=dict(shard_rows=shard_rows),
                      inputs=dict(stages={}, sources=dict(sha256=found.sha256)), plan=asdict(plan))
        if overwrite:
            shutil.rmtree(folder.path, ignore_errors=True)
        elif folder.read(PLAN) not in (None, stored):
            raise ConfigError(f'{folder.path} was made of something else. Choose another folder, or replace it with '
                              '--overwrite.')
        folder.clear_attempts()
        write_json(folder.path / PLAN, stored)
    for shard, rows in enumerate(_blocks(source.records(), shard_rows)):
        if any(folder.receipt(shard) is None for folder in folders.values()):
            _write_shard(source, folders, shard, rows, shard * shard_rows, how)
    refuse_nothing(folders['records'].receipt(shard) for shard in range(count))
    _refuse_repeated(folders['records'], count)
    for kind, folder in folders.items():
        receipts = [folder.receipt(shard) for shard in range(count)]
        summary = _bucket_summary(folder, count, list(found.buckets)) if kind == 'buckets' else {}
        folder.clear_attempts()
        write_json(folder.path / MANIFEST, manifest_of(folder.read(PLAN), receipts, summary, {}))
    return {kind: folder.path for kind, folder in folders.items()}


def _blocks(records: Iterator[tuple[str | None, Record]], size: int) -> Iterator[list[tuple[str | None, Record]]]:
    while block := list(islice(records, size)):
        yield block


def _write_shard(source: Source, folders: Mapping[str, StageFolder], shard: int,
                 rows: Sequence[tuple[str | None, Record]], first: int, how: str) -> None:
    lines = lines_of([record for _, record in rows], first)
    order = np.argsort(lines, kind='stable')
    buckets, records = [rows[place][0] for place in order], [rows[place][1] for place in order]
    lines = lines[order]
    if len(np.unique(lines)) < len(lines):  # no line numbers to be trusted
        lines = first + np.arange(len(lines))
    batch = as_batch(records, lines)
    _refuse_twice([(number, count) for number, count in Counter(batch.records['id'].to_pylist()).items() if count > 1])
    kept = np.isin(lines, batch.records['line'].to_numpy())
    records = [record for record, is_kept in zip(records, kept) if is_kept]
    with folders['records'].writing(shard) as attempt:
        write_batches(attempt, iter([batch]), RECORDS_SCHEMA)
    with folders['images'].writing(shard) as attempt:
        _write_images(source, attempt, shard, batch.records, records, how)
    if 'buckets' in folders:
        names = pyarrow.array([bucket for bucket, is_kept in zip(buckets, kept) if is_kept], pyarrow.string())
        if names.null_count:
            raise DataError(f'{source.path}: some records are in a bucket and some in none.')
        index = pyarrow.table([batch.records['id'], names.dictionary_encode(), batch.records['uploaded_at']],
                              BUCKETS_SCHEMA)
        with folders['buckets'].writing(shard) as attempt:
            parquet.write_table(index, attempt.folder / BUCKETS, compression='zstd')
            attempt.counts.update(inside=len(index), outside=0)


def _write_images(source: Source, attempt: Attempt, shard: int, table: pyarrow.Table, records: Sequence[Record],
                  how: str) -> None:
    attempt.tabled.add('files')
    columns: dict[str, list] = {name: [] for name in ('path', 'bytes', 'width', 'height', 'format', 'sha256')}
    outcomes, good = [], []
    for row, (number, record) in enumerate(zip(table['id'].to_pylist(), records)):
        file = source.places.now(image_path(record)) if image_path(record) else None
        outcome: str | Header = MISSING
        if file is not None and file.is_file():
            content = read_bytes(file, MOST_IMAGE_BYTES)
            outcome = image_header(content)
        if isinstance(outcome, str):
            outcomes.append(outcome)
            continue
        outcomes.append('ok')
        below = f'files/{len(good) // _A_FOLDER:04d}/{number}{_suffix(file, outcome)}'
        target = attempt.folder / below
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(file, target, how)
        good.append(row)
        values = (f'shards/{shard:06d}/{below}', len(content), outcome.width, outcome.height, outcome.format,
                  hashlib.sha256(content).hexdigest())
        for name, value in zip(columns, values):
            columns[name].append(value)
    images = table.select(IMAGES_SCHEMA.names[:5]).take(pyarrow.array(good, pyarrow.int64()))
    for name in IMAGES_SCHEMA.names[5:]:
        kind = IMAGES_SCHEMA.field(name).type
        images = images.append_column(name, pyarrow.array(columns[name], kind) if name in columns else
                                      pyarrow.nulls(len(good), kind))
    parquet.write_table(images.cast(IMAGES_SCHEMA), attempt.folder / IMAGES, compression='zstd')
    told = table.select(['id', 'line', 'uploaded_at'])
    told = told.append_column('outcome', pyarrow.array(outcomes, pyarrow.string()))
    parquet.write_table(told.cast(OUTCOMES_SCHEMA), attempt.folder / 'outcomes.parquet', compression='zstd')
    attempt.counts.update(Counter(outcomes))


def _suffix(file: Path, header: Header) -> str:
    suffix = file.suffix.lower()
    return suffix if suffix[1:].isalnum() and suffix.isascii() else f'.{header.format.lower()}'


def _place(file: Path, target: Path, how: str) -> None:
    if how == 'hardlink':
        try:
            os.link(file.resolve(), target)
            return
        except OSError:  # another disk, or one that has no such links
            pass
    shutil.copyfile(file, target)


def _refuse_repeated(folder: StageFolder, count: int) -> None:
    files = [folder.shard_folder(shard) / RECORDS for shard in range(count)]
    with querying(folder.path / TEMPORARY) as connection:
        twice = connection.execute(f'SELECT id, count(*) FROM {tables(files)} GROUP BY id HAVING count(*) > 1 ORDER BY '
                                   'id LIMIT 3').fetchall()
    _refuse_twice(twice)


def _refuse_twice(twice: Sequence[tuple[int, int]]) -> None:
    if twice:
        listed = '; '.join(f'id {found} is there {times} times' for found, times in twice[:3])
        raise DataError(f'an id stands for one photo, but: {listed}.')


def _bucket_summary(folder: StageFolder, count: int, names: Sequence[str]) -> dict[str, Plain]:
    files = [folder.shard_folder(shard) / BUCKETS for shard in range(count)]
    with querying(folder.path / TEMPORARY) as connection:
        rows = connection.execute(f"SELECT bucket, count(*), strftime(min(moment), '%Y-%m-%d %H:%M:%S'), "
                                  f"strftime(max(moment), '%Y-%m-%d %H:%M:%S') FROM {tables(files)} GROUP BY bucket"
                                  ).fetchall()
    found = {name: dict(count=number, first=first, last=last) for name, number, first, last in rows}
    return dict(of='images', by='uploaded_at', zone='UTC', buckets={
        name: found.get(name, dict(count=0, first=None, last=None)) for name in names})
