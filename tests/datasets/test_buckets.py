"""Buckets are views of one table: what they share, how they are joined and cut, and what a stream takes in memory."""

import gc
import pickle
import sys
import tracemalloc

import numpy as np
import pyarrow
import pytest
import torch

from clear.core.errors import DataError
from clear.datasets import Bucket, BucketDataset, ImageTable, SampleContext
from clear.datasets.buckets import cut_buckets, in_one_table
from clear.datasets.columns import TextCells, chunked_texts, plain_texts, text_column
from clear.datasets.readers.by_time import SplitOptions
from clear.datasets.readers.table_by_time import Columns, Periods, read_table_by_time

NAMES = ['b/1.jpg', 'a/2.jpg', 'c/größe.jpg', 'd/\udcff.jpg']


def table_of(paths, tmp_path, labels=None):
    return ImageTable.from_columns(tmp_path, dict(path=paths, label=labels or [0] * len(paths)), ['x', 'y'])


def addresses(images, column='path'):
    """Where the bytes of a column lie."""
    return {buffer.address for chunk in images[column].chunks for buffer in chunk.buffers() if buffer is not None}


@pytest.mark.parametrize('names', [NAMES[:3], NAMES])
def test_ids_and_paths_are_the_strings(names, tmp_path):
    for found in (Bucket('1', table_of(names, tmp_path)).ids, Bucket('1', table_of(names, tmp_path)).paths):
        assert found == names and list(found) == [found[row] for row in range(len(names))] == names
        assert found[-1] == names[-1] and found[1:] == names[1:] and names[0] in found and found.index(names[-1]) > 0
        assert found != names[:-1] and found != names[::-1]
        with pytest.raises(IndexError):
            found[len(names)]


def test_all_cells_are_read_block_by_block(monkeypatch, tmp_path):
    monkeypatch.setattr('clear.datasets.table._BLOCK', 3)
    for count in range(1, 8):
        names = [f'{row}.jpg' for row in range(count)]
        assert list(table_of(names, tmp_path).cells('path')) == names


def test_paths_are_none_beside_features(tmp_path):
    images = ImageTable.from_columns(tmp_path, dict(id=['f/1', 'f/2'], path=['', ''], label=[0, 1]), ['x', 'y'])
    bucket = Bucket('1', images, torch.zeros(2, 3))
    assert bucket.ids == ['f/1', 'f/2'] and bucket.paths == [] and len(bucket) == 2


def test_one_name_that_is_not_utf8_makes_the_column_one_of_bytes():
    joined = chunked_texts([text_column(NAMES[:2]), text_column(NAMES[3:]), text_column([])])
    assert joined.type == pyarrow.binary() and plain_texts(joined) == NAMES[:2] + NAMES[3:]


@pytest.mark.parametrize('names', [NAMES[:3], NAMES, ['']])
@pytest.mark.parametrize('form', ['array', 'large', 'sliced', 'chunks'])
def test_cells_of_text_are_read_at_rows(names, form):
    column = text_column(['left out', *names, 'too'])[1:-1] if form == 'sliced' else text_column(names)
    if form == 'large':
        column = column.cast(pyarrow.large_binary() if column.type == pyarrow.binary() else pyarrow.large_string())
    if form == 'chunks':
        column = pyarrow.chunked_array([column[:1], column[1:]])
    cells = pickle.loads(pickle.dumps(TextCells(column)))
    rows = np.array([*range(len(names)), 0, len(names) - 1])
    assert cells.at(rows) == [names[row] for row in rows] and cells.at(rows[:0]) == []


def test_cut_buckets_share_the_memory_of_the_table(tmp_path):
    images = table_of(NAMES, tmp_path, [0, 1, 1, 0])
    buckets = cut_buckets(images, [('1', 1), ('2', 0), ('3', 3)])
    assert [(bucket.name, len(bucket)) for bucket in buckets] == [('1', 1), ('2', 0), ('3', 3)]
    assert [list(bucket.ids) for bucket in buckets] == [NAMES[:1], [], NAMES[1:]]
    assert buckets[2].paths == NAMES[1:] and buckets[2].targets.tolist() == [1, 1, 0]
    assert buckets[2].targets.dtype == np.int64
    assert addresses(buckets[2].images) == addresses(images) == addresses(images, 'id')


def test_buckets_in_one_table(tmp_path):
    parts = [Bucket('1', table_of(NAMES[:2], tmp_path, [1, 0])), Bucket('1', table_of(NAMES[2:3], tmp_path)),
             Bucket('2', table_of(NAMES[3:], tmp_path, [1]))]
    images, buckets = in_one_table(parts)
    assert images.texts('path') == images.texts('id') == NAMES and images.label_array().tolist() == [1, 0, 0, 1]
    assert images.buckets() == ['1', '1', '1', '2'] and images.class_names == ['x', 'y'] and images.root == tmp_path
    assert [(bucket.name, list(bucket.ids)) for bucket in buckets] == [(part.name, list(part.ids)) for part in parts]
    # A column of which one part is not UTF-8 is made anew; else the parts are taken as they are.
    images, buckets = in_one_table(parts[:2])
    assert addresses(images) == addresses(parts[0].images) | addresses(parts[1].images)
    with pytest.raises(DataError, match="the id 'a/2.jpg' is there twice"):
        in_one_table([parts[0], parts[0]])


def test_rows_that_are_taken_are_one_column_where_ids_are_the_paths(tmp_path):
    taken = table_of(NAMES, tmp_path, [0, 1, 1, 0]).select([3, 1])
    assert taken.texts('id') == taken.texts('path') == [NAMES[3], NAMES[1]]
    assert taken.label_array().tolist() == [0, 1] and taken.table.column_names == ['id', 'path', 'label']
    assert addresses(taken, 'id') == addresses(taken, 'path')
    named = ImageTable.from_columns(tmp_path, dict(id=['p', 'q', 'r'], path=NAMES[:3])).select([2, 0])
    assert named.texts('id') == ['r', 'p'] and named.texts('path') == [NAMES[2], NAMES[0]]


@pytest.mark.parametrize('protocol, num_lists', [('iid', 6), ('streaming', 12)])
def test_a_stream_takes_less_than_half_of_lists_of_strings(protocol, num_lists, tmp_path):
    count = 20_000
    paths = [f'labeled_images/{row % 10}/class_{row % 11}/{row:012}.jpg' for row in range(count)]
    (tmp_path / 't.csv').write_text('path,label,timestamp\n' + '\n'.join(
        f'{path},class_{row % 11},{2000 + row % 10}-01-01' for row, path in enumerate(paths)))
    options = SplitOptions() if protocol == 'iid' else SplitOptions('streaming', None)

    def read():
        data = read_table_by_time(tmp_path / 't.csv', Periods(freq='year'), options, Columns())
        return data, [BucketDataset(data.root, bucket, np.asarray, is_train=True, context=SampleContext())
                      for bucket in data.train + data.test]

    read()  # what is made once, by imports and caches, does not count
    gc.collect()
    tracemalloc.start()
    before = pyarrow.total_allocated_bytes()
    held = read()
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] + pyarrow.total_allocated_bytes() - before
    tracemalloc.stop()
    data, datasets = held
    assert sorted(path for dataset in datasets for path in dataset.ids) == sorted(paths * (num_lists // 6))
    # A bucket had ids, paths and targets of its own, and so had its data set; under 'streaming' there are two of each.
    lists = sum(map(sys.getsizeof, paths)) + 8 * num_lists * count
    assert taken < lists / 2, f'{taken / count:.0f} bytes per image, {lists / count:.0f} in lists'
