"""The images of a stage as every consumer takes them: which, in which order, and with the bytes that they have."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from curated import BEGIN, curated, picture
from stage_folders import finished
from tiny_encoder import TinyEncoder

from clear.core.errors import ConfigError, DataError
from clear.curation.images import image_table
from clear.datasets import read_images
from clear.datasets.loaders.streams import images_in_stream, of_buckets
from clear.features import extract
from clear.registry import DATASETS

ROOT = Path(__file__).parents[2]
VIEWS = dict(type='MultiCrop', recipe='moco_v2', options=dict(size=8))


def expected(ids, wanted, count=30):
    """Numbers of the images of some buckets, bucket after bucket, by id."""
    numbers = [number for number in range(count) if number % 10 != 9]
    return [number for bucket in wanted for number in sorted((each for each in numbers if each % 3 == bucket),
                                                             key=ids.__getitem__)]


@pytest.mark.parametrize('store', ['tar', 'files'])
@pytest.mark.parametrize('bucket, wanted', [(None, [0, 1, 2]), ('mid', [1]), (2, [2]), (['new', 0], [2, 0])])
def test_buckets_by_id(tmp_path, store, bucket, wanted):
    images, buckets, ids = curated(tmp_path, store=store)
    table = image_table(images, buckets, bucket)
    numbers = expected(ids, wanted)
    assert table.texts('id') == [str(ids[number]) for number in numbers]
    assert table.buckets() == [('old', 'mid', 'new')[number % 3] for number in numbers]
    assert [table.content(row) for row in range(len(table))] == [picture(number) for number in numbers]
    assert [(time - BEGIN).total_seconds() for time in table.times()] == [number * 3600 for number in numbers]
    assert table['uploaded_at'].equals(table['taken_at'])
    assert table.are_files == (store == 'files') and table.root == tmp_path / 'download'
    assert pyarrow.types.is_dictionary(table['bucket'].type)


def test_without_buckets_the_order_is_the_stage_s(tmp_path):
    images, _, ids = curated(tmp_path)
    table = read_images(dict(type='CuratedImages', stage=str(images.folder.path)))
    assert table.texts('id') == list(map(str, ids)) and 'bucket' not in table
    assert [table.content(row) for row in range(30)] == list(map(picture, range(30)))


def test_files_beside_shards(tmp_path):
    """As after a change of `store`: a stage's rows may be of both kinds."""
    images, buckets, ids = curated(tmp_path)
    table = image_table(images, buckets)
    row = table.texts('id').index(str(ids[4]))
    (tmp_path / 'download' / '4.jpg').write_bytes(b'alone')
    mixed = [None if each == row else value for each, value in enumerate(table['shard'].to_pylist())]
    columns = {name: table[name] for name in ('id', 'bucket')} | dict(
        path=['4.jpg'] * len(table), shard=mixed,
        **{name: [None if mixed[each] is None else value for each, value in enumerate(table[name].to_pylist())]
           for name in ('offset', 'bytes')})
    mixed = type(table).from_columns(table.root, columns)
    assert mixed.content(row) == b'alone' and mixed.content(0) == table.content(0)


def test_pretraining_and_banks_from_shards_are_those_from_files(tmp_path):
    found = []
    for store in ('tar', 'files'):
        images, buckets, _ = curated(tmp_path / store, store=store)
        cfg = dict(type='CuratedImages', stage=str(images.folder.path), buckets=str(buckets.folder.path))
        dataset = DATASETS.build(dict(cfg, bucket='mid', transform=VIEWS))
        assert list(dataset.buckets) == ['mid'] and len(dataset) == 9
        views = [view.numpy() for row in range(9) for view in dataset[1, row]['inputs']]
        replayed = DATASETS.build(dict(cfg, bucket='new', replay_buckets=['old', 'mid'], replay_size=4, image_size=8))
        assert {name: len(rows) for name, rows in replayed.buckets.items()} == {'new': 9, 'replay': 4}
        bank = extract(TinyEncoder(), cfg, tmp_path / store / 'bank')
        assert bank.meta['source'] == 'CuratedImages'
        assert bank.column('bucket') == image_table(images, buckets).buckets()
        found.append([views, [replayed[0, row]['inputs'].numpy() for row in range(13)], bank.features,
                      bank.fingerprint])
    for one, other in zip(*found[:2]):
        assert one == other if isinstance(one, str) else np.array_equal(one, other)


def test_a_moved_stage_is_the_same_data(tmp_path):
    images, buckets, _ = curated(tmp_path / 'a')
    before = image_table(images, buckets).fingerprint()
    shutil.move(tmp_path / 'a', tmp_path / 'b')
    cfg = dict(type='CuratedImages', stage=str(tmp_path / 'b/download'), buckets=str(tmp_path / 'b/time_buckets'))
    assert read_images(cfg).fingerprint() == before and read_images(cfg).open_image(3).size == (20, 16)


def test_a_stream_of_buckets(tmp_path):
    images, buckets, ids = curated(tmp_path)
    cfg = dict(type='CuratedImages', stage=str(images.folder.path), buckets=str(buckets.folder.path), image_size=8)
    assert images_in_stream(cfg, ['mid', 0]).bucket_names() == ['mid', 'old']
    later = DATASETS.build(of_buckets(cfg, ['new'], ['old', 'mid'], replay_size=4))
    assert {name: len(rows) for name, rows in later.buckets.items()} == {'new': 9, 'replay': 4}
    assert list(later.ids)[:9] == [str(ids[number]) for number in expected(ids, [2])]
    with pytest.raises(ConfigError, match="'late'"):
        images_in_stream(cfg, ['late'])


@pytest.mark.slow
def test_readers_need_nothing_that_only_curation_needs():
    blocked = ('duckdb', 'aiohttp', 'simplejpeg', 'imagehash', 'protego', 'faiss', 'webdataset', 'streamlit', 'ray')
    code = (f'import sys; sys.modules.update(dict.fromkeys({blocked})); from clear.registry import READERS; '
            "assert READERS.get_own('CuratedImages') and READERS.get_own('CLEAR')")
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_what_cannot_be(tmp_path):
    images, buckets, _ = curated(tmp_path)
    with pytest.raises(ConfigError, match="bucket is 'old', but buckets, the folder of a stage"):
        image_table(images, bucket='old')
    with pytest.raises(ConfigError, match="'late'"):
        image_table(images, buckets, 'late')
    with pytest.raises(DataError, match='none of its images is in bucket none'):
        image_table(images, buckets, 'none')
    with pytest.raises(DataError, match='time_buckets holds no images .* stage TimeBuckets made it'):
        image_table(buckets)
    with pytest.raises(DataError, match='download holds no time buckets .* stage Download made it'):
        image_table(images, images)
    with pytest.raises(DataError, match='holds no finished stage'):
        read_images(dict(type='CuratedImages', stage=str(tmp_path)))
    empty = finished(tmp_path / 'empty', [{'images.parquet': images_of_nothing()}])
    with pytest.raises(DataError, match='no images'):
        read_images(dict(type='CuratedImages', stage=str(empty.folder.path)))


def images_of_nothing():
    from curated import SCHEMA

    return SCHEMA.empty_table()
