"""Streams from folders named by time and from tables with dates."""

import logging
import os
from collections import Counter

import pyarrow
import pytest
from pyarrow import csv, parquet

from clear.core.errors import ConfigError, DataError
from clear.datasets.readers.bucket_lists import BucketChoice, read_buckets
from clear.datasets.readers.by_time import SplitOptions, order_times, read_folder_by_time
from clear.datasets.readers.table_by_time import Columns, Periods, read_table_by_time

IID, STREAMING = SplitOptions(), SplitOptions('streaming', None)


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b'')
    return root


def folders(root, times=('2010', '9'), classes=('cat', 'dog'), count=10):
    return touch(root, *(f'{time}/{name}/{number}.jpg' for time in times for name in classes
                         for number in range(count)))


# Folders


def test_each_class_of_each_time_is_split(tmp_path):
    root = folders(tmp_path)
    touch(root, '9/cat/notes.txt', '9/.cache/x.jpg')
    data = read_folder_by_time(root, IID)
    assert [bucket.name for bucket in data.train] == ['9', '2010'] and data.class_names == ['cat', 'dog']
    for train, test in zip(data.train, data.test):
        assert Counter(train.targets.tolist()) == {0: 7, 1: 7} and Counter(test.targets.tolist()) == {0: 3, 1: 3}
        assert sorted([*train.paths, *test.paths]) == sorted(
            f'{train.name}/{name}/{number}.jpg' for name in ('cat', 'dog') for number in range(10))
        assert all(data.class_names[target] == path.split('/')[1] for path, target in zip(train.paths, train.targets))
    other = read_folder_by_time(root, SplitOptions(seed=7, test_ratio=0.5))
    assert [len(bucket) for bucket in other.test] == [10, 10] and other.fingerprint != data.fingerprint
    few = read_folder_by_time(root, SplitOptions(shot=2))
    assert [len(bucket) for bucket in few.train] == [4, 4] and [len(bucket) for bucket in few.test] == [16, 16]
    whole = read_folder_by_time(root, STREAMING)
    assert [bucket.paths for bucket in whole.train] == [bucket.paths for bucket in whole.test]
    assert [len(bucket) for bucket in whole.train] == [20, 20]


@pytest.mark.parametrize('order', ['{time}/{part}', '{part}/{time}'])
def test_train_and_test_folders_are_the_split(tmp_path, order):
    for part, count in (('train', 4), ('test', 2)):
        touch(tmp_path, *(f'{order.format(time=time, part=part)}/cat/{number}.png' for time in ('2', '10')
                          for number in range(count)))
    for seed in (0, 1):
        data = read_folder_by_time(tmp_path, SplitOptions(seed=seed))
        assert [len(bucket) for bucket in data.train] == [4, 4] and [len(bucket) for bucket in data.test] == [2, 2]
        assert data.train[1].paths[0] == order.format(time='10', part='train') + '/cat/0.png'
    few = read_folder_by_time(tmp_path, SplitOptions(shot=1))
    assert [len(bucket) for bucket in few.train] == [1, 1] and [len(bucket) for bucket in few.test] == [5, 5]
    assert [len(bucket) for bucket in read_folder_by_time(tmp_path, STREAMING).train] == [6, 6]


@pytest.mark.parametrize('names, ordered', [
    (['10', '9', '1'], ['1', '9', '10']), (['2010-11', '2010-9', '2009-12-31'], ['2009-12-31', '2010-9', '2010-11']),
    (['2010', '2009-05'], ['2009-05', '2010'])])
def test_times_are_ordered_as_numbers_or_dates(names, ordered, tmp_path):
    assert order_times(names, tmp_path) == ordered


@pytest.mark.parametrize('names, message', [
    (['spring', '2010-05'], "'spring' is no date.*scenario.times"), (['2010-05', '2010-5-1'], 'are the same time'),
    (['null', 'nan'], 'no time')])
def test_names_without_an_order_are_refused(names, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        order_times(names, tmp_path)


def test_times_can_be_chosen_and_ordered_by_hand(tmp_path):
    root = folders(tmp_path, times=('spring', 'summer', 'autumn'))
    data = read_folder_by_time(root, IID, times=['summer', 'spring'])
    assert [bucket.name for bucket in data.train] == ['summer', 'spring']
    with pytest.raises(DataError, match="no folder 'winter'; it has 'autumn', 'spring'"):
        read_folder_by_time(root, IID, times=['winter'])


def test_a_bucket_without_a_class_is_named_in_one_warning(tmp_path, caplog):
    root = folders(tmp_path, times=('1', '2', '3'))
    touch(root, '3/owl/0.jpg', '3/owl/1.jpg')
    with caplog.at_level(logging.WARNING, 'clear'):
        data = read_folder_by_time(root, IID)
    assert len(data.train) == 3 and len(caplog.records) == 1
    assert "bucket 1 (train and test): 'owl'; bucket 2 (train and test): 'owl'" in caplog.text
    caplog.clear()
    read_folder_by_time(root, STREAMING)
    [record] = caplog.records
    assert record.getMessage().endswith("bucket 1: 'owl'; bucket 2: 'owl'")


def test_a_class_that_is_never_trained_on_is_refused(tmp_path):
    touch(tmp_path, '1/train/cat/0.jpg', '1/test/cat/1.jpg', '1/test/owl/0.jpg')
    with pytest.raises(DataError, match="'owl' occur in no training list"):
        read_folder_by_time(tmp_path, IID)


@pytest.mark.parametrize('names', [['bus', 'car'], ['car', 'train'], ['essay', 'test'], ['car', 'test', 'train'],
                                   ['test', 'train']])
def test_classes_may_be_called_train_and_test(tmp_path, names):
    root = folders(tmp_path, ('2010', '2011'), names, count=4)
    touch(root, *(f'2010/{name}/deeper/{number}.jpg' for name in names for number in range(2)))
    data = read_folder_by_time(root, IID)
    assert data.class_names == names and [len(bucket) for bucket in data.test] == [len(names), len(names)]
    choice = BucketChoice(None, 'all', layout='folder')
    assert read_buckets(root, choice).class_names == names


def test_names_that_are_not_utf8(tmp_path):
    names = [os.fsdecode(f'é{number}.jpg'.encode('latin-1')) for number in range(4)]
    root = touch(tmp_path, *(f'1/cat/{name}' for name in names))
    data = read_folder_by_time(root, IID)
    assert sorted([*data.train[0].paths, *data.test[0].paths]) == [f'1/cat/{name}' for name in names]
    touch(root, os.fsdecode(b'1/caf\xe9/1.jpg'), os.fsdecode(b'1/caf\xe9/2.jpg'))
    with pytest.raises(DataError, match=r"the name of class 'caf\\udce9' is not UTF-8. Rename it"):
        read_folder_by_time(root, IID)


def test_a_key_says_what_train_and_test_folders_are(tmp_path):
    root = touch(tmp_path, *(f'{time}/{part}/{name}/{number}.jpg' for time in (1, 2) for part in ('train', 'test')
                             for name in ('cat', 'dog') for number in range(4)))
    assert read_folder_by_time(root, IID).class_names == ['cat', 'dog']
    assert read_folder_by_time(root, SplitOptions(part_folders=True)).class_names == ['cat', 'dog']
    assert read_folder_by_time(root, SplitOptions(part_folders=False)).class_names == ['test', 'train']
    choice = BucketChoice(None, 'all', layout='folder', part_folders=False)
    assert read_buckets(root, choice).class_names == ['test', 'train']
    with pytest.raises(ConfigError, match="part_folders is 'no'; expected True or False"):
        read_folder_by_time(root, SplitOptions(part_folders='no'))
    flat = folders(tmp_path / 'flat')
    with pytest.raises(DataError, match='needs a train folder'):
        read_folder_by_time(flat, SplitOptions(part_folders=True))


def test_a_stream_whose_buckets_share_no_class_is_class_incremental(tmp_path, caplog):
    root = touch(tmp_path, *(f'{time}/{name}/{number}.jpg' for time, names in (('1', 'ab'), ('2', 'cd'))
                             for name in names for number in range(4)))
    with caplog.at_level(logging.WARNING, 'clear'):
        data = read_folder_by_time(root, IID)
    assert data.is_class_incremental and not caplog.records
    touch(root, '2/a/0.jpg', '2/a/1.jpg')
    assert not read_folder_by_time(root, IID).is_class_incremental
    assert not read_folder_by_time(root, IID, times=['1']).is_class_incremental


@pytest.mark.parametrize('paths, message', [
    (['1/train/cat/0.jpg', '1/test/cat/1.jpg', '2/cat/0.jpg'], "'1' and '2' differ in having train/ and test/"),
    (['1/train/cat/0.jpg', '1/train/cat/1.jpg'], 'needs a test folder'),
    (['1/cat/0.jpg', '2/cat/0.jpg', '2/cat/1.jpg'], 'the test list of bucket 1 is empty'),
    (['1/0.jpg'], 'no class folders'), (['0.jpg'], 'has no folders')])
def test_trees_of_another_form_are_refused(tmp_path, paths, message):
    touch(tmp_path, *paths)
    with pytest.raises(DataError, match=message):
        read_folder_by_time(tmp_path, IID)


@pytest.mark.parametrize('options, message', [
    (SplitOptions('online'), "evaluation_protocol is 'online'"),
    (SplitOptions('both'), "is 'both', expected 'iid' or 'streaming'. Only scenario.type='CLEAR' takes 'both'"),
    (SplitOptions('streaming', 0), 'seed must be None'),
    (SplitOptions('streaming', None, 3), 'shot must be None'), (SplitOptions(seed=None), 'seed is None'),
    (SplitOptions(test_ratio=0), 'test_ratio is 0')])
def test_options_that_do_not_go_together(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        read_folder_by_time(folders(tmp_path), options)


# Tables

ROWS = [(f'images/{number}.jpg', ('cat', 'dog')[number % 2], f'{2010 + number // 4}-{1 + number % 4:02}-15')
        for number in range(12)]


def table(root, rows=ROWS, suffix='csv', names=('path', 'label', 'timestamp')):
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    path = root / f'photos.{suffix}'
    write = csv.write_csv if suffix == 'csv' else parquet.write_table
    write(pyarrow.table(columns), path)
    return path


def read(path, periods, options=STREAMING, columns=Columns(), **others):  # noqa: B008
    return read_table_by_time(path, periods, options, columns, **others)


def contents(data):
    return {bucket.name: [int(path.split('/')[1].split('.')[0]) for path in bucket.paths] for bucket in data.train}


@pytest.mark.parametrize('suffix', ['csv', 'parquet'])
@pytest.mark.parametrize('periods, expected', [
    (Periods(freq='year'), {'2010': [0, 1, 2, 3], '2011': [4, 5, 6, 7], '2012': [8, 9, 10, 11]}),
    (Periods(num_buckets=5), {'1': [0, 1, 2], '2': [3, 4, 5], '3': [6, 7], '4': [8, 9], '5': [10, 11]}),
    # 821 days in four: up to 2010-08-08, 2011-03-01, 2011-09-22 and the end.
    (Periods(num_buckets=4, equal='time'), {'1': [0, 1, 2, 3], '2': [4, 5], '3': [6, 7], '4': [8, 9, 10, 11]}),
    (Periods(edges=['2010-03-15', 2012]), {'..2010-03-15': [0, 1], '2010-03-15..2012': [2, 3, 4, 5, 6, 7],
                                           '2012..': [8, 9, 10, 11]})])
def test_periods(tmp_path, suffix, periods, expected):
    path = table(tmp_path, list(reversed(ROWS)), suffix)  # the order of the rows means nothing
    data = read(path, periods)
    assert contents(data) == expected and data.class_names == ['cat', 'dog'] and data.root == tmp_path
    for bucket in data.train:
        assert bucket.targets.tolist() == [number % 2 for number in expected[bucket.name]]


def test_months_follow_each_other_as_they_come(tmp_path):
    assert list(contents(read(table(tmp_path), Periods(freq='month'))))[3:6] == ['2010-04', '2011-01', '2011-02']


def test_a_table_is_split_like_a_folder(tmp_path):
    rows = [(f'{number}.jpg', ('cat', 'dog')[number % 2], '2010') for number in range(20)]
    data = read(table(tmp_path, rows), Periods(num_buckets=1), IID)
    assert Counter(data.test[0].targets.tolist()) == {0: 3, 1: 3} and len(data.train[0]) == 14


def test_columns_and_numbers_as_labels(tmp_path):
    path = table(tmp_path, [('a', 10, '1272806653'), ('b', 9, '1172806653')], names=('file', 'class', 'when'))
    data = read(path, Periods(num_buckets=1), columns=Columns('file', 'class', 'when'), root='/photos')
    assert data.class_names == ['9', '10'] and data.train[0].paths == ['b', 'a'] and str(data.root) == '/photos'
    with pytest.raises(DataError, match="no column 'wen', nearest: 'when'"):
        read(path, Periods(num_buckets=1), columns=Columns('file', 'class', 'wen'))


def test_rows_without_a_date(tmp_path, caplog):
    path = table(tmp_path, [*ROWS, ('images/12.jpg', 'cat', ''), ('images/13.jpg', 'cat', '0000-00-00')])
    with pytest.raises(DataError, match=r"2 of 14 rows have no timestamp, first row 13 \(images/12.jpg\).*'drop'"):
        read(path, Periods(freq='year'))
    with caplog.at_level(logging.WARNING, 'clear'):
        assert sum(map(len, read(path, Periods(freq='year'), missing='drop').train)) == 12
    assert '2 of 14 rows have no timestamp and are left out' in caplog.text


def test_labels_that_pandas_made_floats(tmp_path):
    paths = [f'{row}.jpg' for row in range(12)]
    touch(tmp_path, *paths)
    labels = [float(number) for number in (1, 2, 10)] * 4
    columns = dict(path=paths, timestamp=['2010'] * 6 + ['2011'] * 6, label=pyarrow.array(labels))
    parquet.write_table(pyarrow.table(columns), tmp_path / 't.parquet')
    data = read(tmp_path / 't.parquet', Periods(freq='year'), root=tmp_path)
    assert data.class_names == ['1', '2', '10'] and data.train[0].targets.tolist() == [0, 1, 2] * 2
    for bad, message in ((float('nan'), 'rows have no label, first row 1'), (2.5, 'row 1: label 2.5 is neither'),
                         (float('inf'), 'row 1: label inf is neither')):
        columns['label'] = pyarrow.array([bad, *labels[1:]])
        parquet.write_table(pyarrow.table(columns), tmp_path / 't.parquet')
        with pytest.raises(DataError, match=message):
            read(tmp_path / 't.parquet', Periods(freq='year'), root=tmp_path)


@pytest.mark.parametrize('row, message', [
    (('images/20.jpg', 'cat', 'soon'), "row 13: 'soon' is no date"), (('../x.jpg', 'cat', '2010'), 'lies outside'),
    (('images/0.jpg', 'cat', '2011'), 'is in two lists'), (('images/20.jpg', '', '2010'), 'rows have no label')])
def test_wrong_rows_are_refused(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        read(table(tmp_path, [*ROWS, row]), Periods(freq='year'))


@pytest.mark.parametrize('periods, error, message', [
    (Periods(), ConfigError, 'exactly one'), (Periods(3, freq='year'), ConfigError, 'exactly one'),
    (Periods(freq='week'), ConfigError, "freq is 'week'"), (Periods(0), ConfigError, 'num_buckets is 0'),
    (Periods(2, equal='size'), ConfigError, "equal is 'size'"), (Periods(13), DataError, 'too few for 13'),
    (Periods(edges=['2012', '2011']), ConfigError, 'ascending dates'), (Periods(edges=['x']), ConfigError, 'no date'),
    (Periods(edges=['2000']), DataError, r'no image is in bucket \.\.2000; the images are from 2010-01-15 to 2012')])
def test_periods_that_cannot_be(tmp_path, periods, error, message):
    with pytest.raises(error, match=message):
        read(table(tmp_path), periods)


def test_a_table_that_is_none(tmp_path):
    (tmp_path / 'x.parquet').write_bytes(b'no table')
    for name, says in (('x.parquet', 'cannot be read as a table'), ('gone.csv', 'does not exist')):
        with pytest.raises(DataError, match=says):
            read(tmp_path / name, Periods(freq='year'))
