import csv
import struct
import zlib
from datetime import UTC, datetime

import numpy as np
import pyarrow
import pytest
import torchvision.datasets
from clear_trees import write_clear_tree
from PIL import Image
from pyarrow import parquet
from tiny_encoder import TinyEncoder, write_images

from clear.core.errors import ConfigError, DataError
from clear.datasets import read_clear, read_images
from clear.datasets.readers.build import guess_reader
from clear.datasets.table import ImageTable
from clear.features import extract, write_bank


@pytest.mark.parametrize('layout', ['old', 'new'])
def test_clear_tree_holds_every_image_of_every_list_once(tmp_path, layout):
    root = write_clear_tree(tmp_path / 'tree', layout=layout)
    source = read_images(dict(type='CLEAR', data_root=str(root)))
    assert len(source) == 3 * 3 * 4 and source.buckets() == ['1'] * 12 + ['2'] * 12 + ['3'] * 12
    lists = read_clear(root, seed=0)
    for bucket in lists.train + lists.test:
        rows = [source.texts('id').index(name) for name in bucket.ids]
        assert source.label_array()[rows].tolist() == bucket.targets.tolist()
        assert {source.buckets()[row] for row in rows} == {bucket.name}
    assert sorted(source.texts('id')) == sorted(name for bucket in lists.train + lists.test for name in bucket.ids)


def test_image_folder_is_sorted_by_class_and_file(tmp_path):
    write_images(tmp_path / 'images', count=4, classes=('zebra', 'ant'))
    Image.new('RGB', (4, 4)).save(tmp_path / 'images' / 'loose.JPEG')
    (tmp_path / 'images' / 'ant' / 'notes.txt').write_text('no image')
    (tmp_path / 'images' / 'empty').mkdir()
    source = read_images(dict(type='ImageFolder', root=str(tmp_path / 'images')))
    assert source.texts('id') == ['ant/001.png', 'ant/003.png', 'loose.JPEG', 'zebra/000.png', 'zebra/002.png']
    assert source.label_array().tolist() == [0, 0, -1, 1, 1] and source.class_names == ['ant', 'zebra']


def test_list_file(tmp_path):
    write_images(tmp_path / 'images', count=3)
    (tmp_path / 'images' / 'list.txt').write_text('field hockey/001.png 2\n\nbus/000.png\nbus/002.png 0\n')
    source = read_images(dict(type='FileList', path=str(tmp_path / 'images' / 'list.txt')))
    assert source.texts('id') == ['field hockey/001.png', 'bus/000.png', 'bus/002.png']
    assert source.label_array().tolist() == [1, -1, 0] and source.class_names == ['0', '2']
    assert source.open_image(0).size == (12, 12)


def write_table(path, rows):
    if path.suffix == '.csv':
        with path.open('w', newline='') as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize('suffix', ['csv', 'parquet'])
def test_table_with_every_column(tmp_path, suffix):
    path = tmp_path / f'images.{suffix}'
    write_table(path, [dict(path='b.png', label='bus', id='007', bucket='10', timestamp='2011-05-01 12:00:00'),
                       dict(path='a.png', label='ant', id='008', bucket='2', timestamp='2012-01-01 00:00:00')])
    source = read_images(dict(type='Table', path=str(path)))
    assert source.texts('id') == ['007', '008'] and source.texts('path') == ['b.png', 'a.png']
    assert source.buckets() == ['10', '2']
    assert source.label_array().tolist() == [1, 0] and source.class_names == ['ant', 'bus']
    assert source.times()[0] == datetime(2011, 5, 1, 12, tzinfo=UTC)


def test_times_are_taken_else_uploaded(tmp_path):
    days = [datetime(2011, 5, day, tzinfo=UTC) for day in (1, 2, 3)]
    table = pyarrow.table(dict(id=['a', 'b', 'c'], path=['a', 'b', 'c'], taken_at=[days[0], None, None],
                               uploaded_at=[days[1], days[2], None]))
    assert ImageTable(tmp_path, table).times() == [days[0], days[2], None]
    assert ImageTable(tmp_path, table.drop_columns('taken_at')).times() == [days[1], days[2], None]
    assert ImageTable(tmp_path, table.select(['id', 'path'])).times() == [None] * 3


def test_table_with_numbers_and_gaps(tmp_path):
    write_table(tmp_path / 't.csv', [dict(path='a', label=3), dict(path='b', label=None)])
    source = read_images(dict(type='Table', path=str(tmp_path / 't.csv'), class_names=['p', 'q', 'r', 's']))
    assert source.label_array().tolist() == [3, -1] and source.class_names == ['p', 'q', 'r', 's']
    assert source.texts('id') == ['a', 'b']


def test_class_indices_that_pandas_made_floats(tmp_path):
    columns = dict(path=['a', 'b', 'c'], label=pyarrow.array([10.0, float('nan'), 2.0]))
    parquet.write_table(pyarrow.table(columns), tmp_path / 't.parquet')
    source = read_images(dict(type='Table', path=str(tmp_path / 't.parquet')))
    assert source.label_array().tolist() == [1, -1, 0] and source.class_names == ['2', '10']


@pytest.mark.parametrize('numbers', [(0, 1, 2), (10, 20, 30), (7, 2_000_000, 10**15), (3, 10**30, 10**40)])
def test_classes_are_those_that_occur(tmp_path, numbers):
    # The largest number must cost nothing: a name for every number below it would not fit the memory.
    names = [str(number) for number in numbers]
    rows = [dict(path=f'{row}.png', label=numbers[row % 3]) for row in range(6)]
    write_table(tmp_path / 't.csv', rows)
    (tmp_path / 'l.txt').write_text('\n'.join(f"{row['path']} {row['label']}" for row in rows))
    for cfg in (dict(type='Table', path=str(tmp_path / 't.csv')), dict(type='FileList', path=str(tmp_path / 'l.txt'))):
        if numbers[-1] >= 2**63 and cfg['type'] == 'Table':
            continue  # a table has no column for such numbers
        source = read_images(cfg)
        assert source.class_names == names and source.label_array().tolist() == [0, 1, 2] * 2
        row, label = next((row, label) for row, label in enumerate(numbers, start=1) if label > 1)
        with pytest.raises(DataError, match=f"row {row}: label '{label}' is none of the 2 classes"):
            read_images(dict(cfg, class_names=['a', 'b']))
    if numbers[-1] < 2**63:
        bank = write_bank(tmp_path / 'bank', np.eye(6, dtype=np.float32), [row['label'] for row in rows])
        assert bank.class_names == names and bank.labels.tolist() == [0, 1, 2] * 2


def test_a_table_takes_the_dates_of_every_reader(tmp_path):
    times = {'2010': (2010, 1, 1), '2010-05': (2010, 5, 1), '20100502132413': (2010, 5, 2, 13, 24, 13),
             '1272000000': (2010, 4, 23, 5, 20), '2010-05-02T13:24:13Z': (2010, 5, 2, 13, 24, 13)}
    write_table(tmp_path / 't.csv', [dict(path=f'{row}.png', timestamp=time) for row, time in enumerate(times)])
    source = read_images(dict(type='Table', path=str(tmp_path / 't.csv')))
    assert source.times() == [datetime(*time, tzinfo=UTC) for time in times.values()]


@pytest.mark.parametrize('again', ['a/b.png', './a/b.png', 'a//b.png', 'a/./b.png', 'a/x/../b.png'])
def test_an_image_under_two_spellings_is_one_image(tmp_path, again):
    write_table(tmp_path / 't.csv', [dict(path='a/b.png', label=1), dict(path='c.png', label=1),
                                     dict(path=again, label=1)])
    (tmp_path / 'l.txt').write_text(f'a/b.png 1\nc.png 1\n{again} 1\n')
    for cfg in (dict(type='Table', path=str(tmp_path / 't.csv')), dict(type='FileList', path=str(tmp_path / 'l.txt'))):
        with pytest.raises(DataError, match=f"'{again}' is listed twice, as images 1 and 3"):
            read_images(cfg)


def test_buckets_and_timestamps_arrive_in_the_bank(tmp_path):
    write_images(tmp_path, count=2)
    write_table(tmp_path / 't.csv', [dict(path='bus/000.png', bucket='4', timestamp='2011-05-01T12:00:00Z'),
                                     dict(path='field hockey/001.png', bucket='', timestamp='')])
    bank = extract(TinyEncoder(), dict(type='Table', path=str(tmp_path / 't.csv')), tmp_path / 'bank')
    assert bank.index['bucket'].to_pylist() == ['4', None] and bank.labels.tolist() == [-1, -1]
    assert bank.index['timestamp'].to_pylist() == [datetime(2011, 5, 1, 12, tzinfo=UTC), None]


@pytest.mark.parametrize('text, message', [
    ('file,label\na,1\n', "no column 'path'"), ('path\n../../etc/passwd\n', 'outside'), ('path\na\na\n', 'twice'),
    ('path,label\na,-7\n', 'row 1: label -7, expected a class index'), ('path\n', 'no images'),
    ('path,label\na,1.5\n', 'label 1.5 is neither'), ('path,id\na,\n', 'no id'),
    ('path,timestamp\na,soon\n', "row 1: 'soon' is no date")])
def test_wrong_tables_are_refused(tmp_path, text, message):
    (tmp_path / 't.csv').write_text(text)
    with pytest.raises(DataError, match=message):
        read_images(dict(type='Table', path=str(tmp_path / 't.csv')))


def write_cifar(root):
    """CIFAR-10's files with 2 images per batch, written as torchvision wants them."""
    import hashlib
    import pickle

    folder = root / 'cifar-10-batches-py'
    folder.mkdir(parents=True)
    rng, sums = np.random.default_rng(0), []
    for name in [*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch']:
        data = {'data': rng.integers(0, 256, (2, 3072), dtype=np.uint8), 'labels': [3, int(rng.integers(10))]}
        (folder / name).write_bytes(pickle.dumps(data))
        sums.append([name, hashlib.md5((folder / name).read_bytes()).hexdigest()])
    names = {'label_names': [f'class {i}' for i in range(10)]}
    (folder / 'batches.meta').write_bytes(pickle.dumps(names))
    return sums[:5], sums[5:], hashlib.md5((folder / 'batches.meta').read_bytes()).hexdigest()


def test_torchvision_set_with_images_in_memory(tmp_path, monkeypatch):
    train, test, meta = write_cifar(tmp_path)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, 'train_list', train)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, 'test_list', test)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, 'meta', {**torchvision.datasets.CIFAR10.meta, 'md5': meta})
    cfg = dict(type='TorchVision', dataset='CIFAR10', root=str(tmp_path), train=False)
    source = read_images(cfg)
    assert source.texts('id') == ['CIFAR10/train=False/0', 'CIFAR10/train=False/1']
    assert source.class_names[3] == 'class 3' and source.select([1]).open_image(0) == source.open_image(1)
    bank = extract(TinyEncoder(), cfg, tmp_path / 'bank', dtype='float32')
    image = torchvision.datasets.CIFAR10(str(tmp_path), train=False).data[1]
    encoder = TinyEncoder()
    expected = encoder(encoder.preprocess.build()(Image.fromarray(image))[None])[0]
    assert bank.labels[0] == 3 and np.allclose(bank.features[1], expected, rtol=1e-5, atol=1e-6)
    fingerprint = source.fingerprint()
    source.dataset.data[0, 0, 0, 0] ^= 1
    assert source.fingerprint() != fingerprint


def test_torchvision_set_with_files(tmp_path):
    write_images(tmp_path / 'images', count=4)
    cfg = dict(type='TorchVision', dataset='ImageFolder', root=str(tmp_path / 'images'))
    source = read_images(cfg)
    assert source.label_array().tolist() == [0, 0, 1, 1] and source.open_image(3).size == (12, 12)
    fingerprint = source.fingerprint()
    Image.new('RGB', (99, 9)).save(tmp_path / 'images' / 'bus' / '000.png')
    assert read_images(cfg).fingerprint() != fingerprint


class Folderless(torchvision.datasets.VisionDataset):
    """A set that keeps its images in memory under no name that is common, and says its classes per sample."""

    classes = ['crane', 'heron', 'crane']

    def __init__(self, root, images=(), labels=(0, 2)):
        super().__init__(root)
        self.images = [Image.new('RGB', (9, 9), color) for color in ('red', 'blue')]
        self.answers = labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return self.images[row], self.answers[row]


def test_torchvision_set_that_says_little(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, 'Folderless', Folderless, raising=False)
    (tmp_path / 'images.bin').write_bytes(b'abc')
    cfg = dict(type='TorchVision', dataset='Folderless', root=str(tmp_path))
    source = read_images(cfg)
    assert source.label_array().tolist() == [0, 2] and source.class_names == ['crane', 'heron', 'crane #2']
    assert source.open_image(1).getpixel((0, 0)) == (0, 0, 255)
    fingerprint = source.fingerprint()
    assert read_images(cfg).fingerprint() == fingerprint
    (tmp_path / 'images.bin').write_bytes(b'abcd')
    assert read_images(cfg).fingerprint() != fingerprint
    with pytest.raises(ConfigError, match='one class each'):
        read_images({**cfg, 'labels': ([1, 2], [3])})


def test_bad_files_of_torchvision_sets_are_masked_by_our_rules(tmp_path):
    write_images(tmp_path / 'images', count=4)
    bomb = write_bomb(tmp_path / 'images' / 'bus' / '000.png')
    (tmp_path / 'images' / 'bus' / '002.png').write_bytes(b'no image')
    cfg = dict(type='TorchVision', dataset='ImageFolder', root=str(tmp_path / 'images'))
    bank = extract(TinyEncoder(), cfg, tmp_path / 'bank', max_bad_fraction=0.5)
    assert bank.valid.tolist() == [False, False, True, True] and bomb.is_file()
    reasons = [record['reason'] for record in bank.bad_samples()]
    assert 'decompression bomb' in reasons[0] and reasons[1] == 'not an image'


def write_bomb(path):
    """A PNG whose header says 20,000 x 20,000 pixels."""
    def chunk(kind, content):
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 20000, 20000, 8, 2, 0, 0, 0))
                     + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b''))
    return path


@pytest.mark.parametrize('cfg, error, message', [
    (dict(type='ImageFolders', root='.'), ConfigError, "nearest: 'ImageFolder'"),
    (dict(root='.'), ConfigError, 'data.type is None'),
    (dict(type='ImageFolder', path='.'), ConfigError, "no key 'path'"),
    (dict(type='ImageFolder'), ConfigError, 'missing 1 required'),
    (dict(type='ImageFolder', root='nowhere'), DataError, 'does not exist'),
    (dict(type='FileList', path='nowhere.txt'), DataError, 'does not exist'),
    (dict(type='Table', path='nowhere.parquet'), DataError, 'does not exist'),
    (dict(type='TorchVision', dataset='CIFAR11', root='.'), ConfigError, "'CIFAR10'"),
    (dict(type='TorchVision', dataset='CIFAR10', root='nowhere'), DataError, 'not found'),
    (dict(type='TorchVision', dataset='CIFAR10', root='.', download=True), ConfigError, 'from disk only'),
    (dict(type='TorchVision', dataset='CIFAR10', root='.', trian=True), ConfigError, 'trian')])
def test_wrong_sources_are_refused(cfg, error, message):
    with pytest.raises(error, match=message):
        read_images(cfg)


def test_guess_by_looking(tmp_path):
    for layout in ('old', 'new'):
        root = write_clear_tree(tmp_path / layout, layout=layout, num_buckets=1, images=False)
        assert guess_reader(root) == dict(type='CLEAR', data_root=str(root))
    write_images(tmp_path / 'images', count=1)
    assert guess_reader(tmp_path / 'images') == dict(type='ImageFolder', root=str(tmp_path / 'images'))
    assert guess_reader('a/b.txt')['type'] == 'FileList' and guess_reader('a/b.parquet')['type'] == 'Table'
    with pytest.raises(DataError, match='no folder, list'):
        guess_reader(tmp_path / 'nowhere')
