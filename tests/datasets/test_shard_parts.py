"""Images that are parts of shards: every reader of images gives what it gives for the same images in files."""

import os
import pickle
import threading

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from tiny_encoder import TinyEncoder

from clear.continual.scenarios import build_scenario
from clear.core.errors import DataError
from clear.datasets import ImageTable, SelfSupervisedImages, read_images
from clear.datasets.images.decode import ImageDecoder, UnreadableImage
from clear.datasets.images.reader import ImageReader
from clear.features import extract
from clear.registry import DATASETS

COUNT = 12


@pytest.fixture
def folder(tmp_path):
    """Twelve images as files, the same between other bytes in two shards, and a table of each kind and of both."""
    rng = np.random.default_rng(0)
    contents, paths = [], [f'{number:02}.png' for number in range(COUNT)]
    for number, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (9 + number, 12, 3), dtype=np.uint8)).save(tmp_path / path)
        contents.append((tmp_path / path).read_bytes())
    (tmp_path / 'shards').mkdir()
    places = []
    for shard in range(2):
        with (tmp_path / f'shards/{shard}.tar').open('wb') as file:
            for content in contents[shard::2]:
                file.write(bytes(rng.integers(0, 256, 31, dtype=np.uint8)))
                places.append((f'shards/{shard}.tar', file.tell(), len(content)))
                file.write(content)
    places = [places[number % 2 * (COUNT // 2) + number // 2] for number in range(COUNT)]
    plain = dict(path=paths, label=[number % 2 for number in range(COUNT)],
                 bucket=['early'] * 6 + ['late'] * 6, timestamp=['2010-01-01'] * COUNT)
    parts = dict(zip(('shard', 'offset', 'bytes'), map(list, zip(*places))))
    for name, more in (('files', {}), ('shards', parts)):
        parquet.write_table(pyarrow.table(plain | more), tmp_path / f'{name}.parquet')
    some = {name: [None if row % 3 else value for row, value in enumerate(values)] for name, values in parts.items()}
    parquet.write_table(pyarrow.table(plain | some), tmp_path / 'both.parquet')
    return tmp_path


def table(folder, kind):
    return dict(type='Table', path=str(folder / f'{kind}.parquet'), class_names=['x', 'y'])


def without_files(folder):
    for path in folder.glob('*.png'):
        path.unlink()


@pytest.mark.parametrize('kind', ['shards', 'both'])
def test_contents_sizes_and_fingerprints_are_those_of_the_files(folder, kind):
    files, parts = (read_images(table(folder, each)) for each in ('files', kind))
    assert not parts.are_files and parts.are_stored and files.are_files
    for row in range(COUNT):
        assert parts.content(row) == files.content(row) == (folder / f'{row:02}.png').read_bytes()
        assert np.array_equal(np.asarray(parts.open_image(row)), np.asarray(files.open_image(row)))
    assert parts.fingerprint() == files.fingerprint()
    copy = pickle.loads(pickle.dumps(parts.select(slice(3, 9, 2))))
    assert [copy.content(row) for row in range(3)] == [files.content(row) for row in (3, 5, 7)]
    assert SelfSupervisedImages(parts, image_size=8).fingerprint() == \
        SelfSupervisedImages(files, image_size=8).fingerprint()
    if kind == 'both':
        (folder / '01.png').unlink()
        assert parts.fingerprint() == files.fingerprint(), 'both know that it is gone'
        (folder / '00.png').unlink()
        assert parts.fingerprint() != files.fingerprint(), 'the part is still there'


@pytest.mark.parametrize('cache', [None, 'ram', 'disk'])
def test_the_reader_and_its_caches(folder, cache):
    images = read_images(table(folder, 'shards'))
    expected = [np.asarray(Image.open(folder / path)) for path in images.texts('path')]
    without_files(folder)
    reader = ImageReader(images.root, images.cells('path'), ImageDecoder('pil'), parts=images.shard_parts, cache=cache,
                         cache_dir=folder / 'cache' if cache == 'disk' else None)
    for each in (reader, pickle.loads(pickle.dumps(reader))):
        for row in (*range(COUNT), 3):
            assert np.array_equal(each[row], expected[row])
    found = [None] * COUNT
    threads = [threading.Thread(target=lambda row=row: found.__setitem__(row, reader.read(row)))
               for row in range(COUNT)]
    if cache != 'disk':
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(map(np.array_equal, found, expected))


def test_pretraining_banks_and_streams(folder):
    options = dict(transform=dict(type='MultiCrop', recipe='moco_v2', options=dict(size=8)))
    reads = dict(train_transform=[dict(type='RandomCrop', size=8), dict(type='ToTensor')],
                 eval_transform=[dict(type='Resize', size=[8, 8]), dict(type='ToTensor')], test_ratio=0.5, seed=0)
    found = []
    for kind in ('files', 'shards'):
        if kind == 'shards':
            without_files(folder)
        dataset = DATASETS.build(dict(table(folder, kind), **options, buckets=['late'], replay_buckets=['early'],
                                      replay_size=3))
        views = torch.stack([torch.stack(dataset[epoch, row]['inputs']) for epoch in range(2) for row in range(9)])
        bank = extract(TinyEncoder(), table(folder, kind), folder / 'banks' / kind)
        info = build_scenario(dict(table(folder, kind), **reads)).info
        images = torch.stack([each[row][0] for each in info.test for row in range(len(each))])
        found.append((views, bank.tensors()[0], images))
    assert all(map(torch.equal, *found))


def test_a_part_that_is_not_there_is_an_unreadable_image(folder):
    images = read_images(table(folder, 'shards'))
    os.truncate(folder / 'shards/1.tar', images['offset'][5].as_py() + 3)
    bank = extract(TinyEncoder(), images, folder / 'bank', max_bad_fraction=0.5)
    assert bank.valid.tolist() == [True] * 5 + [row % 2 == 0 for row in range(5, COUNT)]
    assert {each['reason'] for each in bank.bad_samples()} == {'shards/1.tar is shorter than its index says'}
    assert not bank.features[5].any() and bank.features[6].any()
    (folder / 'shards/1.tar').unlink()
    images = read_images(table(folder, 'shards'))  # what is open stays readable
    dataset = SelfSupervisedImages(images, image_size=8, max_bad_fraction=1)
    for row in range(COUNT):
        dataset[0, row]
    reasons = {each['id']: each['reason'] for each in dataset.bad_samples.records()}
    assert reasons == {f'{row:02}.png': 'shards/1.tar: No such file or directory' for row in range(1, COUNT, 2)}


@pytest.mark.parametrize('make, reason', [
    (os.mkfifo, 'the shard is not a regular file'), (os.mkdir, 'the shard is not a regular file'),
    (lambda path: path.write_bytes(b''), 'shorter than its index says')])
@pytest.mark.timeout(20)
def test_a_shard_that_is_none(folder, make, reason):
    images = read_images(table(folder, 'shards'))
    (folder / 'shards/0.tar').unlink()
    make(folder / 'shards/0.tar')
    images.expect([0, 1])
    with pytest.raises(UnreadableImage, match=reason):
        images.content(0)
    assert images.content(1)


def test_a_part_larger_than_any_image_is_not_read(folder):
    images = ImageTable.from_columns(folder, dict(path=['a'], shard=['shards/0.tar'], offset=[0], bytes=[2**40]))
    with pytest.raises(UnreadableImage, match='1099511627776 bytes, more than'):
        images.content(0)


@pytest.mark.parametrize('columns, message', [
    (dict(shard=['s', 's']), "need a column 'offset'"), (dict(shard=['s', 's'], offset=[0, 1]), "a column 'bytes'"),
    (dict(shard=['s', None], offset=[0, 1], bytes=[1, 1]), "1 rows have one of 'shard' and 'offset' without the other"),
    (dict(shard=['s', 's'], offset=[0, 1], bytes=[None, 1]), "1 rows have one of 'shard' and 'bytes'"),
    (dict(shard=['s', 's'], offset=[0, -1], bytes=[1, 1]), "'offset' has -1, below 0"),
    (dict(shard=['s', 's'], offset=[0, 1], bytes=[1, -9]), "'bytes' has -9, below 0"),
    (dict(shard=pyarrow.array([0, 1]), offset=[0, 1], bytes=[1, 1]), "column 'shard' should hold text, found int64"),
    (dict(shard=['s', 's'], offset=pyarrow.array([0.0, 1]), bytes=[1, 1]), "'offset' should hold int64, found double"),
    (dict(shard=['s', '../s'], offset=[0, 1], bytes=[1, 1]), "'../s' lies outside"),
    (dict(shard=pyarrow.array(['s', '/etc/passwd']).dictionary_encode(), offset=[0, 1], bytes=[1, 1]),
     "'/etc/passwd' lies outside")])
def test_columns_that_do_not_go_together(tmp_path, columns, message):
    with pytest.raises(DataError, match=message):
        ImageTable.from_columns(tmp_path, dict(path=['a', 'b'], **columns))


def test_without_a_shard_other_columns_of_these_names_mean_nothing(tmp_path):
    (tmp_path / 'a').write_bytes(b'abc')
    images = ImageTable.from_columns(tmp_path, dict(path=['a'], bytes=pyarrow.array(['three'])))
    assert images.content(0) == b'abc' and images.text('bytes', 0) == 'three' and images.are_files
