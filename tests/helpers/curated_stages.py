"""What export and review read, written by hand: records, images, buckets, a selection, features."""

import hashlib
import io
import random
import tarfile
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow
from PIL import Image
from stage_folders import finished

from clear.curation.metadata.records import SCHEMA
from clear.engine.stages.runner import StageRunner
from clear.features import write_bank

GROUP = ['laptop', 'bus', 'BACKGROUND']
IMAGES = pyarrow.schema([
    ('id', pyarrow.int64()), ('line', pyarrow.int64()), ('path', pyarrow.string()), ('shard', pyarrow.string()),
    ('offset', pyarrow.int64()), ('bytes', pyarrow.int64()), ('width', pyarrow.int32()), ('height', pyarrow.int32()),
    ('format', pyarrow.string()), ('sha256', pyarrow.string())])
SELECTION = pyarrow.schema([('id', pyarrow.int64()), ('label', pyarrow.string()), ('prompt', pyarrow.string()),
                            ('score', pyarrow.float32()), ('kind', pyarrow.string()), ('rank', pyarrow.int32())])


def jpeg(number):
    """The file of a photo; no two are alike."""
    pixels = np.random.default_rng(number).integers(0, 255, (12, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'jpeg')
    return file.getvalue()


def record(number):
    """A row of records; ids are no multiples of anything, so that their order as text is another."""
    start = datetime(2008, 1, 1, tzinfo=UTC) + timedelta(days=number)
    cells = dict(id=number * 7 + 1, line=number, is_video=False, uploaded_at=start,
                 taken_at=None if number % 5 == 0 else (start - timedelta(hours=3, microseconds=500_000)
                                                        ).replace(tzinfo=None),
                 taken_at_is_local=True, url=f'http://photos.example/{number}.jpg', hash=f'{number:032x}',
                 user_id='1@N00', title=b'caf%C3%A9+\xff', title_text='caf\u00e9 \ufffd', user_tags=b'a,b%2Cc',
                 user_tags_text=['a', 'b,c'], lon=-12.5 if number % 2 else None, geo_accuracy=16, server_id=7,
                 secret='00ab', ext='png')
    return {name: cells.get(name) for name in SCHEMA.names}


def world(folder, count=60, num_buckets=2, per_class=8, store='files', missing=(), group=GROUP):
    """Stages of `count` photos, the first in bucket 0, the next in bucket 1 and so on.

    Args:
        per_class: photos of each class and bucket, taken round robin.
        store: 'files' or 'tar'.
        missing: numbers of photos without an image.

    Returns:
        `inputs` (kind -> folder), `records`, `contents` (number -> bytes), `chosen` (bucket -> class -> [(number,
        score)] in order).
    """
    rng = random.Random(0)
    rows = [record(number) for number in range(count)]
    half = count // 2
    records = finished(folder / 'records', [{'records.parquet': pyarrow.Table.from_pylist(part, SCHEMA)}
                                            for part in (rows[:half], rows[half:])])
    contents = {number: jpeg(number) for number in range(count)}
    shards = []
    for shard, numbers in enumerate((range(half), range(half, count))):
        files, cells = {}, []
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode='w') as archive:
            for number in numbers:
                if number in missing:
                    continue
                name, content = f'{rows[number]["id"]}.jpg', contents[number]
                cell = dict(id=rows[number]['id'], line=number, path=name, bytes=len(content), width=16, height=12,
                            format='JPEG', sha256=hashlib.sha256(content).hexdigest())
                if store == 'tar':
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    cell |= dict(shard=f'shards/{shard:06d}/images.tar', offset=tar.tell() + 512)
                    archive.addfile(info, io.BytesIO(content))
                else:
                    files[f'files/0000/{name}'] = content
                    cell['path'] = f'shards/{shard:06d}/files/0000/{name}'
                cells.append(cell)
        if store == 'tar':
            files['images.tar'] = tar.getvalue()
        files['images.parquet'] = pyarrow.Table.from_pylist(cells, IMAGES)
        shards.append(files)
    images = finished(folder / 'images', shards)
    size = count // num_buckets
    index = [dict(id=row['id'], bucket=str(number // size), moment=row['uploaded_at'])
             for number, row in enumerate(rows)]
    schema = pyarrow.schema([('id', pyarrow.int64()), ('bucket', pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
                             ('moment', pyarrow.timestamp('us', tz='UTC'))])
    names = [str(bucket) for bucket in range(num_buckets)]
    buckets = finished(folder / 'buckets', [{'buckets.parquet': pyarrow.Table.from_pylist(index, schema)}],
                       dict(buckets={name: dict(count=size) for name in names}))
    chosen = {}
    for name in names:
        waiting = [number for number in range(int(name) * size, (int(name) + 1) * size) if number not in missing]
        rng.shuffle(waiting)
        chosen[name] = {}
        for label in group:
            taken, waiting = waiting[:per_class], waiting[per_class:]
            chosen[name][label] = [(number, 0.9 - 0.05 * place) for place, number in enumerate(taken)]
    selection = select(folder / 'selection', chosen, rows, group)
    return SimpleNamespace(inputs=dict(records=records.folder.path, images=images.folder.path,
                                       buckets=buckets.folder.path, selection=selection.folder.path),
                           records=rows, contents=contents, chosen=chosen, group=group)


def select(folder, chosen, rows, group):
    """A stage of a selection; `chosen` as `world` returns it."""
    shards = []
    for by_label in chosen.values():
        cells = [dict(id=rows[number]['id'], label=label, prompt=f'a photo of a {label}', rank=rank,
                      score=-score if label == 'BACKGROUND' else score,
                      kind='background' if label == 'BACKGROUND' else 'positive')
                 for label, numbers in by_label.items() for rank, (number, score) in enumerate(numbers, start=1)]
        random.Random(1).shuffle(cells)  # ranks say the order, not rows
        shards.append({'selection.parquet': pyarrow.Table.from_pylist(cells, SELECTION)})
    return finished(folder, shards, dict(class_names=group), plan_shards=[dict(bucket=name) for name in chosen])


def banks(folder, rows, buckets, dim=6):
    """A stage of features: two banks a bucket; returns number -> features."""
    values = np.random.default_rng(5).standard_normal((len(rows), dim)).astype(np.float32)
    shards, size = [], len(rows) // len(buckets)
    for place, name in enumerate(buckets):
        for part in np.array_split(np.arange(place * size, (place + 1) * size), 2):
            ids = [str(rows[number]['id']) for number in part]
            bank = write_bank(folder.parent / f'bank_{len(shards)}', values[part], [-1] * len(part), ids=ids,
                              class_names=[])
            shards.append((name, bank.path))
    finished(folder, [{f'bank/{file.name}': file.read_bytes() for file in bank.iterdir()} for _, bank in shards],
             plan_shards=[dict(bucket=name) for name, _ in shards])
    return values


def export(made, folder, out='out', overwrite=False, **options):
    """Write `folder/out` of the stages of a `world`, with `folder/run` as work_dir."""
    config = dict(stages=[dict(type='Export', out_dir=str(folder / out), **options)],
                  inputs={kind: str(path) for kind, path in made.inputs.items()})
    StageRunner(config, folder / 'run', overwrite=overwrite).run()
    return folder / out


def files(folder):
    """Name -> content of every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob('*'))
            if path.is_file()}
