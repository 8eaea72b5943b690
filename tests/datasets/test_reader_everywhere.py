"""A reader that has a scenario, a data set and a stream of no other kind: its type works in all of them."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_encoder import TinyEncoder

from clear.continual.scenarios import build_scenario, scenario_arguments
from clear.core.errors import ConfigError, DataError, RegistryError
from clear.datasets import read_images
from clear.datasets.loaders.of_readers import images_of
from clear.datasets.splits import stratified_split
from clear.engine.streams.over_time_data import read_stream
from clear.features import extract
from clear.registry import DATASETS, SCENARIOS

READ = [dict(type='Resize', size=8), dict(type='ToTensor')]


@pytest.fixture
def table(tmp_path):
    """Sixteen images of two classes, whose two buckets alternate; the later bucket comes first."""
    rows = []
    for number in range(16):
        path = tmp_path / f'{number:02}.png'
        Image.new('RGB', (8, 8), (number, 0, 0)).save(path)
        rows.append(dict(path=path.name, id=f'image {number}', label=('cat', 'owl')[number // 2 % 2],
                         bucket=('late', 'early')[number % 2], split='all', caption=f'number {number}', mask=path.name))
    (tmp_path / 't.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    return dict(type='Table', path=str(tmp_path / 't.jsonl'))


def ids(numbers):
    return [f'image {number}' for number in numbers]


def test_columns_of_the_reader(table):
    images = read_images(table)
    assert images.kind == 'Table' and images.texts('caption')[3] == 'number 3' and images.texts('mask')[2] == '02.png'
    assert images.bucket_names() == ['late', 'early'] and set(images.texts('split')) == {'all'}


def test_pretraining_goes_bucket_by_bucket(table):
    dataset = DATASETS.build(dict(table, image_size=8))
    assert list(dataset.buckets.items()) == [('late', range(8)), ('early', range(8, 16))]
    assert dataset.ids == ids([*range(0, 16, 2), *range(1, 16, 2)]) and dataset.labels.tolist() == [0, 1] * 4 * 2
    assert dataset[0, 9]['inputs'][0, 0, 0] == 3
    for buckets in (['early'], 1, 'early'):
        assert DATASETS.build(dict(table, image_size=8, buckets=buckets)).ids == ids(range(1, 16, 2))
    replayed = DATASETS.build(dict(table, image_size=8, buckets=['early'], replay_buckets=['late'], replay_size=3))
    assert list(replayed.buckets.items()) == [('early', range(8)), ('replay', range(8, 11))]
    assert {*replayed.ids[8:]} < {*ids(range(0, 16, 2))}
    assert images_of(dict(table, image_size=8), ['early', 'late']).texts('id')[0] == 'image 1'


def test_a_scenario_has_an_experience_for_each_bucket(table, tmp_path):
    scenario = dict(table, seed=3, test_ratio=0.5, train_transform=READ, eval_transform=READ)
    info = build_scenario(scenario).info
    assert info.bucket_names == ['late', 'early'] and info.class_names == ['cat', 'owl']
    for place, first in enumerate((0, 1)):
        train, test = stratified_split([0, 1] * 4, test_ratio=0.5, seed=3, bucket=info.bucket_names[place])
        assert list(info.train[place].ids) == ids(first + 2 * row for row in train)
        assert list(info.test[place].ids) == ids(first + 2 * row for row in test)
    bank = extract(TinyEncoder(), table, tmp_path / 'bank')
    features = build_scenario(dict(table, seed=3, test_ratio=0.5, feature=dict(bank=str(bank.path)))).info
    assert [len(bucket) for bucket in features.train + features.test] == [4, 4, 4, 4]
    whole = build_scenario(dict(scenario, evaluation_protocol='streaming', seed=None)).info
    assert list(whole.train[0].ids) == list(whole.test[0].ids) == ids(range(0, 16, 2))
    assert {'path', 'class_names', 'test_ratio', 'cache'} < scenario_arguments('Table') and \
        'work_dir' not in scenario_arguments('Table')


def test_a_representation_is_measured_on_it(table):
    data, images = read_stream(dict(table, seed=3, test_ratio=0.5))
    assert [bucket.name for bucket in data.train] == ['late', 'early'] and images.kind == 'Table'
    assert list(data.test[1].ids) == ids(1 + 2 * row for row in stratified_split(
        [0, 1] * 4, test_ratio=0.5, seed=3, bucket='early')[1])
    assert images.fingerprint() == read_images(table).fingerprint()


def test_what_a_reader_cannot_give_is_one_message(table, tmp_path):
    root = str(tmp_path)
    for cfg, message in ((dict(type='FolderImages', data_root=root),
                          'scenario: the images of type FolderImages have no buckets, so they are no stream'),
                         (dict(type='BucketImages', data_root=root, layout='folder'), 'have no labels, so nothing can'),
                         (dict(table, path=str(tmp_path / 'gone.csv')), 'does not exist')):
        (tmp_path / '2010').mkdir(exist_ok=True)
        Image.new('RGB', (8, 8)).save(tmp_path / '2010' / 'a.png')
        with pytest.raises(DataError, match=message):
            build_scenario(dict(cfg, train_transform=READ, eval_transform=READ))
    lines = (tmp_path / 't.jsonl').read_text().replace('"bucket": "early"', '"bucket": null', 1)
    (tmp_path / 't.jsonl').write_text(lines)
    with pytest.raises(DataError, match='1 of 16 images have no bucket; a stream needs one of each'):
        build_scenario(table)
    (tmp_path / 't.jsonl').write_text(lines.replace('"label": "cat"', '"label": null', 2))
    with pytest.raises(DataError, match='2 of 16 images have no label'):
        build_scenario(table)
    with pytest.raises(ConfigError, match='pretraining reads'):
        DATASETS.build(dict(type='TorchVision', dataset='ImageFolder', root=root, image_size=8))


@pytest.mark.parametrize('registry', [DATASETS, SCENARIOS], ids=['data set', 'scenario'])
def test_a_misspelt_reader_is_answered_with_the_nearest(registry):
    with pytest.raises(RegistryError, match="no type 'FolderImagse' is registered. Nearest: 'FolderImages'"):
        registry.require('FolderImagse')


def test_a_misspelt_key_of_a_reader_or_of_its_data_set_is_found_before_anything_is_read():
    for key, near in (('imagesize', 'image_size'), ('pathcolumn', 'path_column'), ('bucket', 'buckets')):
        with pytest.raises(ConfigError, match=f"dataset: Table has no key '{key}'. Did you mean '{near}'"):
            DATASETS.build(dict(type='Table', path='gone.csv', **{key: 1}))


def write(folder, text):
    (folder / 't.csv').write_text(text)
    return dict(type='Table', path=str(folder / 't.csv'))


@pytest.mark.parametrize('columns, message', [
    (dict(path=[['a'], ['b']]), "column 'path' should hold text, found list"),
    (dict(path=[True, False]), "column 'path' should hold text, found bool"),
    (dict(path=['a', 'b'], bucket=[dict(x=1)] * 2), "column 'bucket' should hold text, found struct"),
    (dict(path=['a', 'b'], label=[[1], [2]]), "column 'label' should hold class indices or names"),
    (dict(path=['a', 'b'], id=['x', 'x']), "the id 'x' is there twice"),
    (dict(path=['a', 'b'], id=['x', None]), '1 rows have no id, first row 2'),
    (dict(path=['a', 'b'], mask=['m', '../x']), 'lies outside')])
@pytest.mark.parametrize('suffix', ['parquet', 'jsonl'])
def test_a_column_of_the_wrong_type_and_ids_that_repeat_are_one_message(columns, message, suffix, tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
    if suffix == 'parquet':
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / 't.parquet')
    else:
        (tmp_path / 't.jsonl').write_text('\n'.join(map(json.dumps, rows)))
        message = message.split(', found ')[0]
    with pytest.raises(DataError, match=message):
        read_images(dict(type='Table', path=str(tmp_path / f't.{suffix}')))


def test_columns_may_have_other_names(tmp_path):
    cfg = write(tmp_path, 'file,kind,day\n0012.png,7,2010\nb.png,3,2011-05\n')
    images = read_images(dict(cfg, path_column='file', label_column='kind', time_column='day'))
    assert images.texts('id') == ['0012.png', 'b.png'] and images.class_names == ['3', '7']
    assert [time.year for time in images.times()] == [2010, 2011]
    for name in ('path', 'label', 'time'):
        with pytest.raises(DataError, match="no column 'dya', nearest: 'day'. Columns: file, kind, day"):
            read_images(dict(cfg, path_column='file') | {f'{name}_column': 'dya'})


def test_a_table_that_images_were_written_to_is_read_again(tmp_path):
    from pyarrow import parquet

    cfg = write(tmp_path, 'path,label,timestamp,bucket\na.png,cat,2010-05-02,1\nb.png,,,2\n')
    images = read_images(cfg)
    parquet.write_table(images.table, tmp_path / 't.parquet')
    again = read_images(dict(cfg, path=str(tmp_path / 't.parquet'), class_names=['cat']))
    assert again.times() == images.times() and np.array_equal(again.label_array(), images.label_array())
    assert again.fingerprint() == images.fingerprint()
