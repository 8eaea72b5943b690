"""A small photo stream as curation leaves it: stages `download` and `time_buckets`, in tar shards or in files."""

import io
import tarfile
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import parquet
from stage_folders import finished

from clear.curation.download.kept import SCHEMA as LEFT_OUT
from clear.curation.download.kept import left_out_file
from clear.curation.manifest import StageFolder

SCHEMA = pyarrow.schema([
    ('id', pyarrow.int64()), ('line', pyarrow.int64()), ('uploaded_at', pyarrow.timestamp('us', tz='UTC')),
    ('taken_at', pyarrow.timestamp('us')), ('taken_at_is_local', pyarrow.bool_()), ('path', pyarrow.string()),
    ('shard', pyarrow.string()), ('offset', pyarrow.int64()), ('bytes', pyarrow.int64()), ('width', pyarrow.int32()),
    ('height', pyarrow.int32()), ('format', pyarrow.string()), ('sha256', pyarrow.string())])
BUCKETS = pyarrow.schema([('id', pyarrow.int64()),
                          ('bucket', pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
                          ('moment', pyarrow.timestamp('us', tz='UTC'))])
# An image encoder of a config, with random weights.
TINY = dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=dict(embed_dim=8, vision_cfg=dict(
    layers=1, width=16, head_width=8, patch_size=8, image_size=16)))
BEGIN = datetime(2008, 1, 1, tzinfo=UTC)


def ids_of(count, seed=0):
    """Ids that are in no order, above 2**31 some of them."""
    return (np.random.default_rng(seed).permutation(count) * 700_000_001 % 4_000_000_007).tolist()


def picture(number, size=(20, 16)):
    """A JPEG of its own for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    stored = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(stored, 'JPEG', quality=90)
    return stored.getvalue()


def curated(folder, count=30, shards=2, store='tar', bad=(), names=('old', 'mid', 'new'), copies=()):
    """Stages with images and buckets; every tenth image is in no bucket, and the bucket 'none' is empty.

    Args:
        bad: numbers of images whose bytes are no image.
        names: of the buckets; image n is in number n % len(names).
        copies: numbers of images that the stage leaves out, as if they were copies of others.

    Returns:
        (images, buckets, the ids of the images by number).
    """
    ids = ids_of(count)
    parts, lines = [], np.array_split(np.arange(count), shards)
    for shard, numbers in enumerate(lines):
        rows, files, tar_bytes = [], {}, io.BytesIO()
        with tarfile.open(fileobj=tar_bytes, mode='w') as tar:
            for number in numbers.tolist():
                content = b'no image' if number in bad else picture(number)
                name, place = f'{ids[number]}.jpg', (None, None, None)
                if store == 'tar':
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    offset = tar.offset + tarfile.BLOCKSIZE
                    tar.addfile(member, io.BytesIO(content))
                    place = (f'shards/{shard:06d}/images.tar', offset, len(content))
                else:
                    files[f'files/0000/{name}'] = content
                    name = f'shards/{shard:06d}/files/0000/{name}'
                time = BEGIN + timedelta(hours=number)
                rows.append((ids[number], number, time, time.replace(tzinfo=None), True, name, *place, 20, 16, 'JPEG',
                             ''))
        table = pyarrow.table([pyarrow.array(column, field.type) for column, field in zip(zip(*rows), SCHEMA)], SCHEMA)
        parts.append({'images.parquet': table} | (files if store == 'files' else {'images.tar': tar_bytes.getvalue()}))
    images = finished(folder / 'download', parts, dict(left_out=_left_out(folder, lines, ids, copies)),
                      stage='Download')
    every = [*names, 'none']
    indices = []
    for numbers in lines:
        kept = [number for number in numbers.tolist() if number % 10 != 9]
        codes = pyarrow.array([number % len(names) for number in kept], pyarrow.int32())
        indices.append({'buckets.parquet': pyarrow.table([
            pyarrow.array([ids[number] for number in kept], pyarrow.int64()),
            pyarrow.DictionaryArray.from_arrays(codes, pyarrow.array(every)),
            pyarrow.array([BEGIN + timedelta(hours=number) for number in kept], BUCKETS.field('moment').type)],
            BUCKETS)})
    inside = [number for number in range(count) if number % 10 != 9]
    summary = dict(buckets={name: dict(count=sum(number % len(names) == place for number in inside))
                            for place, name in enumerate(every)})
    return images, finished(folder / 'time_buckets', indices, summary, stage='TimeBuckets'), ids


def _left_out(folder, lines, ids, copies):
    """Lists of what a stage leaves out, and what its manifest says of them."""
    entries = []
    for shard, numbers in enumerate(lines):
        mine = [number for number in numbers.tolist() if number in copies]
        if mine:
            path = left_out_file(StageFolder(folder / 'download'), shard)
            path.parent.mkdir(parents=True, exist_ok=True)
            parquet.write_table(pyarrow.table([[ids[number] for number in mine], mine, ['duplicate'] * len(mine)],
                                              LEFT_OUT), path)
            entries.append(dict(shard=shard, rows=len(mine), bytes=path.stat().st_size, sha256=''))
    return entries
