import json
import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from clear.core.errors import DataError
from clear.datasets.table import ImageTable

ROOT = Path('/photos')
COLUMNS = dict(path=['1/a.jpg', '1/b.jpg', '2/c.jpg', '2/d.jpg', '3/e.jpg'], label=[0, 1, -1, 1, 0],
               bucket=['1', '1', '2', '2', None], taken_at=[datetime(2010, 5, 2, tzinfo=UTC)] * 4 + [None],
               caption=['a cat', '', None, 'x', 'y'])


def table(**others):
    return ImageTable.from_columns(ROOT, {**COLUMNS, **others}, ['cat', 'dog'])


def test_a_table_tells_its_columns():
    images = table()
    assert len(images) == 5 and images.texts('id') == images.texts('path') == COLUMNS['path']
    assert images.table['id'].chunk(0).buffers()[2].address == images.table['path'].chunk(0).buffers()[2].address
    assert images.label_array().tolist() == COLUMNS['label'] and images.label_array().dtype == np.int64
    assert images.bucket_names() == ['1', '2'] and 'caption' in images and 'mask' not in images
    assert images.text('caption', 2) is None and images.text('path', 3) == '2/d.jpg'
    assert images['taken_at'].to_pylist() == COLUMNS['taken_at']
    unlabelled = ImageTable.from_columns(ROOT, dict(path=['a'], labels=[[0, 1]]), ['cat', 'dog'])
    assert unlabelled.label_array().tolist() == [-1] and unlabelled.bucket_names() == []
    with pytest.raises(DataError, match="no column 'bukcet', nearest: 'bucket'. Columns: id, path, label"):
        images['bukcet']


@pytest.mark.parametrize('rows, expected', [
    (slice(1, 3), [1, 2]), (slice(None, None, 2), [0, 2, 4]), (slice(3, 1), []), (slice(4, 9), [4]),
    ([4, 0, 0], [4, 0, 0]), (np.array([True, False, False, True, False]), [0, 3]), (np.zeros(5, bool), []), ([], [])])
def test_rows_are_selected(rows, expected):
    part = table().select(rows)
    assert part.texts('path') == [COLUMNS['path'][row] for row in expected] and part.root == ROOT
    assert part.label_array().tolist() == [COLUMNS['label'][row] for row in expected]
    assert list(part.class_names) == ['cat', 'dog'] and len(part) == len(expected)


@pytest.mark.parametrize('encode', [lambda names: names, lambda names: pyarrow.array(names).dictionary_encode()],
                         ids=['text', 'dictionary'])
def test_a_bucket_is_selected_whether_its_rows_follow_each_other_or_not(encode):
    assert table(bucket=encode(COLUMNS['bucket'])).select(bucket='2').texts('path') == ['2/c.jpg', '2/d.jpg']
    scattered = table(bucket=encode(['x', 'y', 'x', None, 'y']))
    assert scattered.select(bucket='y').texts('path') == ['1/b.jpg', '3/e.jpg']
    assert scattered.bucket_names() == ['x', 'y'] and scattered.select(bucket='y').bucket_names() == ['y']
    with pytest.raises(DataError, match="no bucket is called '7'; there are x, y"):
        scattered.select(bucket='7')


def test_a_selection_that_is_none():
    with pytest.raises(ValueError, match='either rows or bucket'):
        table().select()
    with pytest.raises(ValueError, match='either rows or bucket'):
        table().select([0], bucket='1')
    with pytest.raises(ValueError, match=r'shape \(5,\), found \(3,\)'):
        table().select(np.zeros(3, bool))


@pytest.mark.parametrize('others, message', [
    (dict(label=pyarrow.array([0.0] * 5)), r"column 'label' should hold int32 \(class indices.*found double"),
    (dict(label=['cat'] * 5), "column 'label' should hold int32.*found values that are not"),
    (dict(label=[2**40] * 5), "column 'label' should hold int32"),
    (dict(labels=pyarrow.array([['x']] * 5)), "column 'labels' should hold lists of int32"),
    (dict(difficult=[0] * 5), "column 'difficult' should hold lists of int32"),
    (dict(id=pyarrow.array(range(5))), "column 'id' should hold text, found int64"),
    (dict(bucket=pyarrow.array(range(5))), "column 'bucket' should hold text, found int64"),
    (dict(taken_at=pyarrow.array([datetime(2010, 1, 1)] * 5)),  # noqa: DTZ001 - the point of the test
     r"column 'taken_at' should hold timestamps in UTC, found timestamp\[us\]"),
    (dict(id=['a', 'b', 'c', 'b', 'c']), "/photos: the id 'b' is there twice; every image needs an id of its own"),
    (dict(path=['a'] * 5), "the id 'a' is there twice"),
    (dict(path=['a', 'b', 'c', 'd', None]), '1 rows have no id'),
    (dict(id=COLUMNS['path'], path=['a', 'b', 'c', None, None]), '2 rows have no path'),
    (dict(label=[0, 1, 2, -1, 0]), r'labels -1 \.\.\. 2 do not fit 2 class names \(-1 means no label\)'),
    (dict(label=[0, 1, -2, -1, 0]), r'labels -2 \.\.\. 1 do not fit 2'),
    (dict(difficult=[[2], [], [], [], []]), r'labels 2 \.\.\. 2 do not fit 2 class names'),
    (dict(labels=[[0], [], [1, 2], [0], [0]]), r'labels 0 \.\.\. 2 do not fit 2 class names \(an empty list'),
    (dict(path=['a', 'b', '../c', 'd', 'e']), "'../c' lies outside /photos"),
    (dict(mask=[None, None, None, None, '/etc/x.png']), "'/etc/x.png' lies outside /photos"),
    (dict(path=['a', 'b']), 'columns of different lengths')])
def test_a_wrong_table_is_one_message(others, message):
    with pytest.raises(DataError, match=message):
        table(**others)


def test_columns_and_class_names_that_are_wrong():
    with pytest.raises(DataError, match="needs a column 'id'; it has file"):
        ImageTable.from_columns(ROOT, dict(file=['a']))
    with pytest.raises(DataError, match="two classes are called 'cat'"):
        ImageTable.from_columns(ROOT, dict(path=['a']), ['cat', 'dog', 'cat'])
    with pytest.raises(DataError, match='is not UTF-8'):
        ImageTable.from_columns(ROOT, dict(path=['a']), ['caf\udce9'])


def test_names_of_files_that_are_not_utf8():
    names = ['a.jpg', os.fsdecode(b'caf\xe9.jpg'), os.fsdecode(b'\xe9/../caf.jpg')]
    images = ImageTable.from_columns(ROOT, dict(path=names))
    assert images.texts('path') == names and images.text('id', 1) == names[1]
    assert images.select([2, 1]).texts('id') == [names[2], names[1]]
    with pytest.raises(DataError, match='lies outside'):
        ImageTable.from_columns(ROOT, dict(path=[os.fsdecode(b'../caf\xe9.jpg')]))
    with pytest.raises(DataError, match=r'caf.*is there twice'):
        ImageTable.from_columns(ROOT, dict(path=[names[1]] * 2))


def test_a_file_that_is_no_table(tmp_path):
    (tmp_path / 'x.parquet').write_bytes(b'no table')
    for name, message in (('x.parquet', 'cannot be read as a table'), ('gone.parquet', 'does not exist')):
        with pytest.raises(DataError, match=message):
            ImageTable.open(tmp_path / name)


NUM_ROWS = 1_000_000


@pytest.fixture(scope='module')
def large(tmp_path_factory):
    """A million rows in ten buckets, as a curation writes them; 34 bytes a path."""
    file = tmp_path_factory.mktemp('large') / 'images.parquet'
    rows = np.arange(NUM_ROWS)
    numbers = pyarrow.array(np.char.zfill(rows.astype('U8'), 8))
    paths = pyarrow.compute.binary_join_element_wise(pyarrow.array((rows // 100_000).astype('U2')), 'field hockey',
                                                     pyarrow.compute.binary_join_element_wise(numbers, 'jpg', '.'), '/')
    buckets = pyarrow.array((rows // 100_000).astype('U2')).dictionary_encode()
    parquet.write_table(pyarrow.table(dict(path=paths, bucket=buckets, label=pyarrow.array((rows % 11).astype('i4')))),
                        file)
    return file


def test_a_repeated_id_is_found_wherever_it_lies(monkeypatch):
    monkeypatch.setattr('clear.datasets.columns._BLOCK', 3)
    for count in range(2, 12):
        names = [f'{number}.jpg' for number in range(count)]
        assert len(ImageTable.from_columns(ROOT, dict(path=names))) == count
        for row in range(count - 1):
            twice = [*names[:-1], names[row]]
            with pytest.raises(DataError, match=f"the id '{row}.jpg' is there twice"):
                ImageTable.from_columns(ROOT, dict(path=twice))


# In a process of its own: the pool that counts must live as long as every array.
MEASURE = """
import contextlib, json, os, sys, tracemalloc
import pyarrow
with contextlib.suppress(ImportError):
    import pandas  # pyarrow does so at its first read, where it is installed: 24 MB that are none of ours
from clear.datasets import ImageTable, read_images
read = {{'open': lambda: ImageTable.open(sys.argv[1], class_names=[str(number) for number in range(11)]),
         'reader': lambda: read_images(dict(type='Table', path=sys.argv[1]))}}['{read}']
pool = pyarrow.proxy_memory_pool(pyarrow.default_memory_pool())
pyarrow.set_memory_pool(pool)
tracemalloc.start()
images = read()
opened, in_python = pool.max_memory(), tracemalloc.get_traced_memory()[1]
before = pool.bytes_allocated(), tracemalloc.get_traced_memory()[0]
tracemalloc.reset_peak()
part = images.select(bucket='7')
print(json.dumps(dict(rows=[len(images), len(part)], first=part.text('path', 0), opened=opened, in_python=in_python,
                      kept=pool.bytes_allocated() - before[0],
                      selected=tracemalloc.get_traced_memory()[1] - before[1])), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize('read', ['open', 'reader'])
def test_a_million_rows_open_and_a_bucket_is_selected_within_bounds(large, read):
    done = subprocess.run([sys.executable, '-c', MEASURE.format(read=read), str(large)], capture_output=True, text=True,
                          check=True, timeout=120)
    found = json.loads(done.stdout)
    assert found['rows'] == [NUM_ROWS, 100_000] and found['first'] == '7/field hockey/00700000.jpg'
    # 10 M rows may take 1.5 GB, at the highest.
    bounds = dict(open=(110e6, 1e6), reader=(125e6, 15e6))[read]
    assert found['opened'] < bounds[0] and found['in_python'] < bounds[1], found
    # The selected bucket is a view. A list of its paths would take 8 MB; the mask and the rows take 2.
    assert found['kept'] < 1e4 and found['selected'] < 3e6, found


# Rows by bucket, cells, other processes


@pytest.mark.parametrize('encode', [lambda names: names, lambda names: pyarrow.array(names).dictionary_encode(),
                                    lambda names: pyarrow.DictionaryArray.from_arrays([1, 0, 1, None, 2],
                                                                                      ['y', 'x', 'z'])],
                         ids=['text', 'dictionary', 'dictionary in another order'])
def test_images_lie_bucket_by_bucket(encode):
    names = ['x', 'y', 'x', None, 'z']
    images, rows = table(bucket=encode(names)).in_buckets()
    assert list(rows.items()) == [('x', range(2)), ('y', range(2, 3)), ('', range(3, 4)), ('z', range(4, 5))]
    order = sorted(range(5), key=lambda row: [names.index(name) for name in names][row])
    assert images.texts('path') == [COLUMNS['path'][row] for row in order]
    assert images.in_buckets()[0] is images
    part, rows = images.select(slice(1, 3)).in_buckets()
    assert list(rows) == ['x', 'y'] and len(part) == 2
    without = ImageTable.from_columns(ROOT, dict(path=['a', 'b']))
    assert without.in_buckets() == (without, {'all': range(2)})
    assert table().select([]).in_buckets()[1] == {}


def test_cells_are_a_sequence():
    paths, captions = table().cells('path'), table().cells('caption')
    assert len(paths) == 5 and paths[3] == paths[-2] == '2/d.jpg' and paths[1:3] == ['1/b.jpg', '2/c.jpg']
    assert paths == COLUMNS['path'] and paths != COLUMNS['path'][:4] and paths != '1/a.jpg' and captions[2] is None
    assert list(captions) == COLUMNS['caption'] and paths.index('2/c.jpg') == 2 and 'q' not in paths
    with pytest.raises(IndexError):
        paths[5]
    with pytest.raises(DataError, match="no column 'mask'"):
        table().cells('mask')


def test_a_part_travels_to_another_process_alone(large):
    images = ImageTable.open(large, class_names=[str(number) for number in range(11)])
    part = images.select(slice(7, 107))
    sent = pickle.dumps((part, part.cells('id'), part.cells('path')))
    assert len(sent) < 100 * 60 + 3000  # 34 bytes a path and once; a million rows are 40 MB
    again, ids, paths = pickle.loads(sent)
    assert again.table.equals(part.table) and again.root == part.root and ids == paths == part.texts('path')
    named = pickle.loads(pickle.dumps(table(id=list('vwxyz')).select([2, 1])))
    assert named.texts('id') == ['x', 'w'] and named.texts('path') == ['2/c.jpg', '1/b.jpg']
    assert list(named.class_names) == ['cat', 'dog']
