"""The reader against lists that the tests parse themselves, in both layouts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clear_lists import as_lists, listed, official
from clear_trees import FEATURE_TYPE, write_clear_tree

from clear.core.errors import DataError
from clear.datasets.readers.clear.clear import read_clear


@pytest.fixture(scope='module')
def old(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('old'), features=5, seeds=(0, 3), shots=(1, 2))


@pytest.fixture(scope='module')
def new(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('new'), layout='new', features=5)


@pytest.fixture
def broken(old, tmp_path):
    """A copy of the old tree to damage."""
    return Path(shutil.copytree(old, tmp_path / 'broken'))


@pytest.mark.parametrize('seed', [0, 3])
def test_iid_reads_the_split_of_the_seed(old, seed):
    data = read_clear(old, seed=seed)
    assert (data.layout, data.protocol, data.num_classes) == ('old', 'iid', 3)
    assert data.class_names == ['BACKGROUND', 'field hockey', 'bus']
    split = old / 'training_folder' / 'testset_ratio_0.3' / f'split_{seed}'
    for part, stream in (('train', data.train), ('test', data.test)):
        assert [bucket.name for bucket in stream] == ['1', '2', '3']
        for bucket in stream:
            assert as_lists(bucket) == listed(split / bucket.name / f'{part}.txt')


@pytest.mark.parametrize('shot', [1, 2])
def test_shot_reads_the_few_shot_lists(old, shot):
    data = read_clear(old, seed=3, shot=shot)
    for part, stream in (('train', data.train), ('test', data.test)):
        for bucket in stream:
            folder = old / 'training_folder' / f'{shot}_shot' / 'split_3' / bucket.name
            assert as_lists(bucket) == listed(folder / f'{part}.txt')
    assert np.bincount(data.train[0].targets).tolist() == [shot] * 3


def test_streaming_tests_on_all_that_it_trains_on(old):
    data = read_clear(old, evaluation_protocol='streaming', seed=None)
    for train, test in zip(data.train, data.test):
        expected = listed(old / 'training_folder' / 'filelists' / train.name / 'all.txt')
        assert as_lists(train) == as_lists(test) == expected
        assert train.ids is not test.ids and train.targets is not test.targets


@pytest.mark.parametrize('seed', [0, 4])
def test_new_layout_reads_the_official_split_whatever_the_seed(new, seed):
    data = read_clear(new, seed=seed)
    assert data.layout == 'new'
    for part, stream in (('train', data.train), ('test', data.test)):
        assert [bucket.name for bucket in stream] == ['1', '2', '3']
        for bucket in stream:
            assert as_lists(bucket) == official(new, part, bucket.name)
            assert all((new / path).is_file() for path in bucket.paths)


def test_new_layout_streaming_joins_train_and_test_of_each_bucket(new):
    data = read_clear(new, evaluation_protocol='streaming', seed=None)
    for bucket in data.train:
        train, test = official(new, 'train', bucket.name), official(new, 'test', bucket.name)
        assert as_lists(bucket) == (train[0] + test[0], train[1] + test[1])
    assert len({name for bucket in data.train for name in bucket.ids}) == 3 * 3 * 4


@pytest.mark.parametrize('layout', ['old', 'new'])
@pytest.mark.parametrize('first', [0, 1])
def test_buckets_come_in_numeric_order(tmp_path, layout, first):
    root = write_clear_tree(tmp_path, layout=layout, num_buckets=11, num_classes=1, per_class=2, first_bucket=first)
    if layout == 'old':
        path = root / 'training_folder' / 'bucket_indices.json'
        path.write_text(json.dumps(sorted(json.loads(path.read_text()))))  # '10' before '2'
    for data in (read_clear(root), read_clear(root, evaluation_protocol='streaming', seed=None)):
        assert [bucket.name for bucket in data.train] == [str(i) for i in range(first, first + 11)]
        assert [bucket.name for bucket in data.test] == [bucket.name for bucket in data.train]
        for bucket in data.train:
            assert all(f'/{bucket.name}/' in path for path in bucket.paths)


@pytest.mark.parametrize('shot, folder', [(None, 'testset_ratio_0.3'), (2, '2_shot')])
def test_old_features_are_the_rows_of_the_index_lists(old, shot, folder):
    data = read_clear(old, seed=3, shot=shot, feature_type=FEATURE_TYPE)
    for part, stream in (('train', data.train), ('test', data.test)):
        for bucket in stream:
            place = old / 'training_folder'
            tensor, labels = torch.load(place / 'features' / FEATURE_TYPE / bucket.name / 'all.pth')
            rows = json.loads((place / folder / 'split_3' / bucket.name / f'{part}_indices.json').read_text())
            for position, row in enumerate(rows):
                assert bucket.features[position].tolist() == tensor[row].tolist()
                assert bucket.targets[position] == labels[row]
            assert bucket.ids == [f'features/{FEATURE_TYPE}/{bucket.name}/{row}' for row in rows]
            assert bucket.paths == [] and bucket.features.is_contiguous()


def test_old_features_under_streaming_are_all_rows(old):
    data = read_clear(old, evaluation_protocol='streaming', seed=None, feature_type=FEATURE_TYPE)
    tensor, labels = torch.load(old / 'training_folder' / 'features' / FEATURE_TYPE / '2' / 'all.pth')
    assert torch.equal(data.train[1].features, tensor) and torch.equal(data.test[1].features, tensor)
    assert data.train[1].targets.tolist() == labels


def test_features_as_a_list_of_half_precision_rows(broken):
    path = broken / 'training_folder' / 'features' / FEATURE_TYPE / '1' / 'all.pth'
    tensor, labels = torch.load(path)
    torch.save(([row.half().clone() for row in tensor], torch.tensor(labels)), path)
    bucket = read_clear(broken, evaluation_protocol='streaming', seed=None, feature_type=FEATURE_TYPE).train[0]
    assert bucket.features.dtype == torch.float32
    assert torch.equal(bucket.features, tensor.half().float()) and bucket.targets.tolist() == labels


def test_new_features_are_read_by_class_and_id(new):
    data = read_clear(new, feature_type=FEATURE_TYPE)
    whole = read_clear(new, evaluation_protocol='streaming', seed=None, feature_type=FEATURE_TYPE)
    for train, test, union in zip(data.train, data.test, whole.train):
        for part, bucket in (('train', train), ('test', test)):
            position = 0
            for label, name in enumerate(data.class_names):
                folder = new / part / 'features' / FEATURE_TYPE / bucket.name
                for key, tensor in torch.load(folder / f'{name}.pth').items():
                    assert bucket.features[position].tolist() == tensor.tolist()
                    assert bucket.targets[position] == label
                    assert bucket.ids[position] == f'{part}/features/{FEATURE_TYPE}/{bucket.name}/{name}/{key}'
                    position += 1
            assert position == len(bucket) == len(bucket.features)
        assert torch.equal(union.features, torch.cat([train.features, test.features]))


def test_features_need_no_images(tmp_path):
    for layout in ('old', 'new'):
        root = write_clear_tree(tmp_path / layout, layout=layout, features=4, images=False)
        assert read_clear(root, feature_type=FEATURE_TYPE).train[0].features.shape == (9, 4)
        with pytest.raises(DataError, match='first image'):
            read_clear(root)


def test_fingerprint_tells_content_and_not_place(old, broken):
    def fingerprint(root, **options):
        return read_clear(root, **options).fingerprint

    variants = [{}, {'seed': 3}, {'shot': 1}, {'evaluation_protocol': 'streaming', 'seed': None},
                {'feature_type': FEATURE_TYPE}]
    before = [fingerprint(old, **options) for options in variants]
    assert before == [fingerprint(broken, **options) for options in variants]
    assert len(set(before)) == len(variants)

    path = broken / 'training_folder' / 'features' / FEATURE_TYPE / '3' / 'all.pth'
    tensor, labels = torch.load(path)
    tensor[-1, -1] += 1e-3
    torch.save((tensor, labels), path)
    assert fingerprint(broken, evaluation_protocol='streaming', seed=None, feature_type=FEATURE_TYPE) \
        != fingerprint(old, evaluation_protocol='streaming', seed=None, feature_type=FEATURE_TYPE)
    assert fingerprint(broken) == before[0]


def test_relative_root_with_dots(old, monkeypatch):
    (old / 'below').mkdir(exist_ok=True)
    monkeypatch.chdir(old / 'below')
    assert read_clear('..').fingerprint == read_clear(old).fingerprint
    (old / 'below').rmdir()
