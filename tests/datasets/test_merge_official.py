"""Train and test of the official split of CLEAR as one tree of the old layout."""

import json

import pytest
from download_server import part_files

from clear.core.errors import DataError
from clear.datasets.make.demo import write_demo
from clear.datasets.make.merge import merge_official


def test_merge_is_the_old_layout_of_the_official_split(tmp_path):
    write_demo(tmp_path / 'new', 'new', limit=100)
    write_demo(tmp_path / 'old', 'old', limit=100, seeds=[0])
    summary = merge_official(tmp_path / 'new/train', tmp_path / 'new/test', tmp_path / 'merged')
    assert summary.num_train + summary.num_test == 1000 and summary.skipped == []
    for path in (tmp_path / 'old').rglob('*'):
        relative = path.relative_to(tmp_path / 'old')
        twin = tmp_path / 'merged' / relative
        if path.suffix == '.jpg':
            assert twin.read_bytes() == path.read_bytes() and not twin.is_symlink()
        elif path.suffix == '.txt':  # the order within a class differs: training images first
            assert sorted(twin.read_text().split('\n')) == sorted(path.read_text().split('\n'))
    for bucket in ('1', '10'):
        rows = (tmp_path / f'merged/training_folder/filelists/{bucket}/all.txt').read_text().split('\n')
        folder = tmp_path / f'merged/training_folder/testset_ratio_0.3/split_0/{bucket}'
        for part in ('train', 'test'):
            indices = json.loads((folder / f'{part}_indices.json').read_text())
            assert [rows[index] for index in indices] == (folder / f'{part}.txt').read_text().split('\n')

    from clear.datasets.readers.clear.clear import read_clear

    data = read_clear(tmp_path / 'merged', data_name='demo', seed=0)
    assert data.layout == 'old' and sum(map(len, data.train)) == summary.num_train


def write_part(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_merge_leaves_out_buckets_that_one_part_lacks_and_refuses_what_cannot_be(tmp_path):
    train, test = part_files('8'), part_files('9')
    index = json.loads(test['labeled_metadata.json'])
    del index['1']
    write_part(tmp_path / 'train', train)
    write_part(tmp_path / 'test', {**test, 'labeled_metadata.json': json.dumps(index)})
    summary = merge_official(tmp_path / 'train', tmp_path / 'test', tmp_path / 'out')
    assert summary.buckets == ['2'] and summary.skipped == ['1'] and (summary.num_train, summary.num_test) == (2, 2)
    assert (tmp_path / 'out/training_folder/filelists/2/all.txt').read_text() == '\n'.join(
        f'labeled_images/2/{name}/{split}2{index}.jpg {index}' for index, name in enumerate(('boat', 'car'))
        for split in '89')

    cases = (('different classes', {'class_names.txt': 'boat\nbus'}),
             ('occurs twice', part_files('8')),
             ('outside', {'labeled_metadata/2/car.json': '{"7": {"IMG_PATH": "../x.jpg"}}'}),
             ('does not exist', {'labeled_metadata/2/car.json': '{"7": {"IMG_PATH": "gone.jpg"}}'}),
             ('no IMG_PATH', {'labeled_metadata/2/car.json': '{"7": {}}'}))
    for number, (match, change) in enumerate(cases):
        bad = tmp_path / f'bad{number}'  # not named for the reason: the message shows the path
        write_part(bad, {**test, **change})
        if match == 'different classes':
            write_part(bad, {'labeled_metadata.json': json.dumps({'2': {'boat': 'labeled_metadata/2/boat.json',
                                                                        'bus': 'labeled_metadata/2/car.json'}})})
        with pytest.raises(DataError, match=match):
            merge_official(tmp_path / 'train', bad, tmp_path / 'bad_out')
        assert not (tmp_path / 'bad_out').exists()
