"""The images that a stage has fetched, as every consumer of images takes them: straight from the stage's folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import compute, parquet

from clear.core.errors import ConfigError, DataError
from clear.curation.download.kept import kept_images
from clear.curation.filters import micros
from clear.curation.manifest import Finished
from clear.datasets.columns import PARTS
from clear.datasets.readers.bucket_lists import BucketChoice
from clear.datasets.table import ImageTable
from clear.registry import READERS

IMAGES, BUCKETS = 'images.parquet', 'buckets.parquet'
_COLUMNS = ('id', 'path', 'taken_at', 'uploaded_at', *PARTS)
_UTC = pyarrow.timestamp('us', tz='UTC')


def image_table(finished: Finished, buckets: Finished | None = None,
                bucket: int | str | Sequence[int | str] | None = None) -> ImageTable:
    """The images of a stage that makes `images`, with the columns id, path, bucket, taken_at, uploaded_at and, where
    they lie in shards, shard, offset and bytes.

    With buckets they come bucket after bucket, by id within each, and those that are in none are left out; else they
    come in the stage's order. `taken_at` is the camera's local time, read as if it were UTC. Only what is asked for is
    held.

    Args:
        buckets: a stage that makes `buckets`.
        bucket: names (text) or positions (whole numbers) of those that are wanted; None = all.

    Raises:
        ConfigError: for a bucket without `buckets`, or one that there is not.
        DataError: if a stage makes something else.
    """
    if buckets is None and bucket is not None:
        raise ConfigError(f'bucket is {bucket!r}, but buckets, the folder of a stage with time buckets, is not given.')
    if buckets is None:
        return as_images(finished, pyarrow.concat_tables(kept_in_shards(finished, _COLUMNS)))
    names = bucket_names(buckets)
    wanted = names if bucket is None else BucketChoice(bucket).chosen(names, buckets.folder.path)
    return select_images(finished, wanted, *bucket_ids(buckets, wanted))


@READERS.register_module(name='CuratedImages')
def curated_images(stage: str, buckets: str | None = None,
                   bucket: int | str | Sequence[int | str] | None = None) -> ImageTable:
    """The images of a finished stage of curation, see `image_table`; nothing is unpacked or copied.

    Args:
        stage: the folder of a stage that makes images, such as `WORK_DIR/stages/download`.
        buckets: that of a stage that makes time buckets.
        bucket: which of them; None = all.

    Raises:
        ConfigError, DataError: as `image_table` does.
    """
    return image_table(Finished(stage), None if buckets is None else Finished(buckets), bucket)


def files_of(finished: Finished, name: str, kind: str) -> list[Path]:
    """The files of a name, of all shards.

    Raises:
        DataError: if the stage makes none.
    """
    files = finished.files(name)
    if not files:
        raise DataError(f"{finished.folder.path} holds no {kind} (no {name}): stage {finished.manifest['stage']} made "
                        'it.')
    return files


def bucket_names(buckets: Finished) -> list[str]:
    """Names of all buckets of a stage, empty ones too, in their order.

    Raises:
        DataError: if the stage makes no buckets.
    """
    files_of(buckets, BUCKETS, 'time buckets')
    return list(buckets.summary['buckets'])


def bucket_ids(buckets: Finished, names: Sequence[str], first: int | None = None, last: int | None = None
               ) -> tuple[np.ndarray, np.ndarray]:
    """What is in some buckets: ids (N,) int64, ascending, and of each the position of its bucket in `names`.

    Args:
        first, last: smallest and largest id that is wanted.
    """
    ids, codes = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    for batch in _batches(buckets.files(BUCKETS), ['id', 'bucket']):
        found = batch['id'].to_numpy()
        places = compute.index_in(batch['bucket'].cast(pyarrow.string()), pyarrow.array(names, pyarrow.string()))
        places = places.fill_null(-1).to_numpy(zero_copy_only=False)
        kept = places >= 0
        if first is not None:
            kept &= (found >= first) & (found <= last)
        ids.append(found[kept])
        codes.append(places[kept].astype(np.int32))
    ids, codes = np.concatenate(ids), np.concatenate(codes)
    order = np.argsort(ids, kind='stable')
    return ids[order], codes[order]


def select_images(finished: Finished, names: Sequence[str], ids: np.ndarray, codes: np.ndarray) -> ImageTable:
    """The images of a stage that are in buckets, as `image_table` orders them.

    Args:
        names: of the buckets.
        ids, codes: as `bucket_ids` gives them.
    """
    tables, places = [], [np.zeros(0, np.int64)]
    for images in kept_in_shards(finished, _COLUMNS):
        found = images['id'].to_numpy()
        place = np.minimum(np.searchsorted(ids, found), max(len(ids) - 1, 0))
        kept = ids[place] == found if len(ids) else np.zeros(len(found), bool)
        if kept.any():
            tables.append(images.filter(pyarrow.array(kept)))
            places.append(place[kept])
    if not tables:
        raise DataError(f'{finished.folder.path}: none of its images is in bucket {", ".join(names)}.')
    place = np.concatenate(places)
    order = np.lexsort((place, codes[place]))
    bucket = pyarrow.DictionaryArray.from_arrays(pyarrow.array(codes[place[order]]),
                                                 pyarrow.array(names, pyarrow.string()))
    table = pyarrow.concat_tables(tables).take(pyarrow.array(order)).append_column('bucket', bucket)
    return as_images(finished, table)


def kept_in_shards(finished: Finished, columns: Sequence[str]) -> Iterator[pyarrow.Table]:
    """Columns of the images of each shard that are not left out as copies or stand-ins.

    Raises:
        DataError: if the stage makes no images.
    """
    files_of(finished, IMAGES, 'images')
    for shard in range(len(finished)):
        yield kept_images(finished, shard, columns)


def _batches(files: Sequence[Path], columns: list[str]) -> Iterator[pyarrow.RecordBatch]:
    for path in files:
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(columns=columns)


def as_images(finished: Finished, table: pyarrow.Table) -> ImageTable:
    columns = {name: table[name] for name in table.column_names}
    columns['id'] = table['id'].cast(pyarrow.string())
    for name in ('taken_at', 'uploaded_at'):
        columns[name] = micros(table[name]).cast(_UTC)
    if table['shard'].null_count == len(table):
        for name in PARTS:
            del columns[name]
    else:
        columns['shard'] = table['shard'].cast(pyarrow.string()).dictionary_encode().unify_dictionaries()
    return ImageTable(finished.folder.path, pyarrow.table(columns), kind='CuratedImages')
