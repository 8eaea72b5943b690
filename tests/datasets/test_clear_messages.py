"""What the reader of CLEAR says of trees, options and files that are wrong, in both layouts."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from clear_lists import as_lists, official
from clear_trees import FEATURE_TYPE, write_clear_tree

from clear.core.errors import ConfigError, DataError
from clear.datasets.readers.clear.clear import read_clear
from clear.datasets.readers.clear.metadata import read_metadata


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


@pytest.fixture
def broken_new(new, tmp_path):
    return Path(shutil.copytree(new, tmp_path / 'broken'))


@pytest.mark.parametrize('options, message', [
    ({'seed': 5}, r'one of \[0, 1, 2, 3, 4\]. On disk: splits of seeds \[0, 3\]'),
    ({'seed': None}, r'seed is None.*needs one of'),
    ({'seed': True}, 'seed is True'),
    ({'evaluation_protocol': 'streaming'}, 'seed must be None, not 0'),
    ({'evaluation_protocol': 'streaming', 'seed': None, 'shot': 1}, r"shot=1 needs evaluation_protocol='iid'"),
    ({'evaluation_protocol': 'bothx'}, "'bothx', expected 'iid' or 'streaming' .scenario.type='CLEAR' takes 'both'"),
    ({'shot': 7}, r'no 7_shot lists; shots on disk: \[1, 2\]'),
    ({'shot': 0}, 'shot is 0'),
    ({'feature_type': 'moco'}, "feature_type 'moco' is not .*found: 'moco_b0'"),
    ({'layout': 'older'}, "layout is 'older'"),
    ({'data_name': 'clear1o'}, "'clear1o' is unknown, nearest: .*'clear10'"),
])
def test_options_that_cannot_be(old, options, message):
    with pytest.raises(ConfigError, match=message):
        read_clear(old, **options)


def test_seeds_and_shots_of_the_new_layout(new):
    with pytest.raises(ConfigError, match='seed is 9.*official split'):
        read_clear(new, seed=9)
    with pytest.raises(ConfigError, match='no few-shot lists'):
        read_clear(new, shot=1)


def test_allowed_seed_that_is_not_on_disk(old):
    with pytest.raises(DataError, match=r'no split of seed 1; on disk: splits of seeds \[0, 3\]'):
        read_clear(old, seed=1)


@pytest.mark.parametrize('data_name, command', [('clear10', 'download_clear.py clear10'),
                                                ('demo', 'make_demo_clear.py')])
def test_missing_root_says_what_to_run(tmp_path, data_name, command):
    with pytest.raises(DataError, match=f'does not exist.*{command}.*check_clear.py'):
        read_clear(tmp_path / 'nothing', data_name=data_name)


def test_half_a_tree_says_what_is_missing_and_what_is_there(broken):
    shutil.rmtree(broken / 'training_folder')
    with pytest.raises(DataError, match='training_folder/ .*it holds class_names.txt, labeled_images/'):
        read_clear(broken)


@pytest.mark.parametrize('lost', ['class_names.txt', 'training_folder/bucket_indices.json',
                                  'training_folder/testset_ratio_0.3/split_0/2/test.txt'])
def test_missing_file_of_the_old_layout_is_named(broken, lost):
    (broken / lost).unlink()
    with pytest.raises(DataError, match=f'{lost} is missing; .* holds .*check_clear.py'):
        read_clear(broken)


@pytest.mark.parametrize('lost', ['test/class_names.txt', 'train/labeled_metadata.json',
                                  'test/labeled_metadata/3/bus.json'])
def test_missing_file_of_the_new_layout_is_named(broken_new, lost):
    (broken_new / lost).unlink()
    with pytest.raises(DataError, match=f'{lost} is missing'):
        read_clear(broken_new)


def test_first_image_of_a_bucket_missing(broken):
    shutil.rmtree(broken / 'labeled_images' / '3')
    with pytest.raises(DataError, match="bucket 3: its first image 'labeled_images/3/.* half there"):
        read_clear(broken)


def test_both_layouts_need_a_choice(old, new, tmp_path):
    for source in (old, new):
        shutil.copytree(source, tmp_path / 'both', dirs_exist_ok=True)
    with pytest.raises(ConfigError, match='both CLEAR layouts'):
        read_clear(tmp_path / 'both')
    for layout, source in (('old', old), ('new', new)):
        assert read_clear(tmp_path / 'both', layout=layout).fingerprint == read_clear(source).fingerprint
    with pytest.raises(DataError, match='train/class_names.txt and test/class_names.txt missing'):
        read_clear(old, layout='new')


@pytest.mark.parametrize('data_name, num_classes', [('clear10', 11), ('clear10_neurips2021', 11), ('clear100', 100),
                                                    ('clear100_cvpr2022', 100), ('demo', 10)])
def test_number_of_classes_of_published_sets(old, tmp_path, data_name, num_classes):
    root = write_clear_tree(tmp_path, num_buckets=1, num_classes=num_classes, per_class=2, features=2, images=False)
    assert read_clear(root, data_name=data_name, feature_type=FEATURE_TYPE).num_classes == num_classes
    with pytest.raises(DataError, match=f'{data_name} has {num_classes} classes, but class_names.txt .* lists 3'):
        read_clear(old, data_name=data_name)


@pytest.mark.parametrize('text, message', [
    ('a\nb\na\n', "class_names.txt:3: class 'a' is already on line 1"),
    ('a\n\nb', 'class_names.txt:2: a blank line'),
])
def test_class_names_that_are_wrong(broken, text, message):
    (broken / 'class_names.txt').write_text(text)
    with pytest.raises(DataError, match=message):
        read_clear(broken)


def test_blank_lines_after_the_class_names(broken):
    (broken / 'class_names.txt').write_text('a\nb\nc\n\n \n')
    assert read_clear(broken).class_names == ['a', 'b', 'c']


def test_parts_with_other_classes(broken_new):
    (broken_new / 'test' / 'class_names.txt').write_text('a\nb\n')
    with pytest.raises(DataError, match='differ'):
        read_clear(broken_new)


@pytest.mark.parametrize('line, message', [
    ('labeled_images/1/bus/x.jpg 3', r'train.txt:2: class index 3 is outside 0 ... 2'),
    ('labeled_images/1/bus/x.jpg -1', r'train.txt:2: class index -1'),
    ('labeled_images/1/bus/x.jpg', r"train.txt:2: expected '<relative path> <class index>'"),
    ('a.jpg one', r'train.txt:2: expected'),
    ('../../etc/passwd 0', r'train.txt:2: .*outside'),
    ('/etc/passwd 0', r'train.txt:2: .*absolute'),
    ('FIRST', r'train.txt:2: .* is already on line 1'),
])
def test_lines_that_are_wrong(broken, line, message):
    path = broken / 'training_folder' / 'testset_ratio_0.3' / 'split_0' / '1' / 'train.txt'
    lines = path.read_text().splitlines()
    lines[1] = lines[0] if line == 'FIRST' else line
    path.write_text('\n'.join(lines))
    with pytest.raises(DataError, match=message):
        read_clear(broken)


def spellings(path):
    """Every kind of redundant way to write a path."""
    folder, _, name = path.rpartition('/')
    return [f'./{path}', f'{folder}//{name}', f'{folder}/./{name}', f'{folder}/x/../{name}', f'x/../{path}',
            f'.//{path}']


@pytest.mark.parametrize('kind', range(6))
def test_an_image_under_two_spellings_is_one_image(broken, kind):
    split = broken / 'training_folder' / 'testset_ratio_0.3' / 'split_0' / '2'
    train = (split / 'train.txt').read_text()
    path, target = train.splitlines()[0].rsplit(' ', 1)
    again = f'{spellings(path)[kind]} {target}'
    (split / 'train.txt').write_text(f'{train.rstrip()}\n{again}\n')
    with pytest.raises(DataError, match=rf'train.txt:{len(train.splitlines()) + 1}: .* is already on line 1'):
        read_clear(broken)
    (split / 'train.txt').write_text(train)
    test = (split / 'test.txt').read_text()
    (split / 'test.txt').write_text(f'{test.rstrip()}\n{again}\n')
    with pytest.raises(DataError, match=rf"is in two lists, of bucket 2 \(there as '{path}'\) and of bucket 2"):
        read_clear(broken)
    (split / 'test.txt').write_text(f'{test.rstrip()}\n')
    read_clear(broken)


@pytest.mark.parametrize('kind', range(6))
def test_two_records_of_one_image_are_refused(broken_new, kind):
    metadata = broken_new / 'train' / 'labeled_metadata' / '1' / 'bus.json'
    records = json.loads(metadata.read_text())
    first = next(iter(records))
    records['copy'] = dict(records[first], IMG_PATH=spellings(records[first]['IMG_PATH'])[kind])
    metadata.write_text(json.dumps(records))
    with pytest.raises(DataError, match=f"bus.json: the entries '{first}' and 'copy' are one image"):
        read_clear(broken_new)
    with pytest.raises(DataError, match=f'bus.json: images {first} and copy are one file'):
        read_metadata(broken_new / 'train')


def test_empty_list(broken):
    path = broken / 'training_folder' / 'testset_ratio_0.3' / 'split_0' / '2' / 'test.txt'
    path.write_text('\n')
    with pytest.raises(DataError, match='test.txt is empty'):
        read_clear(broken)


def test_test_image_that_is_also_trained_on(broken):
    split = broken / 'training_folder' / 'testset_ratio_0.3' / 'split_0' / '2'
    shared = (split / 'train.txt').read_text().splitlines()[0]
    (split / 'test.txt').write_text(shared)
    with pytest.raises(DataError, match='is in two lists, of bucket 2 and of bucket 2'):
        read_clear(broken)


@pytest.mark.parametrize('text, message', [
    ('["1", "two"]', "bucket 'two' is not a number"), ('[]', 'no buckets'), ('{"1": 2}', 'expected a list'),
    ('["1", "01"]', 'same number'), ('["1"', 'no valid JSON'),
])
def test_bucket_indices_that_are_wrong(broken, text, message):
    (broken / 'training_folder' / 'bucket_indices.json').write_text(text)
    with pytest.raises(DataError, match=message):
        read_clear(broken)


@pytest.mark.parametrize('rows, message', [
    ('[0, 12]', 'entry 1 is row 12, but .* has 12 rows'), ('[-1]', 'entry 0 is row -1'), ('[]', 'is empty'),
    ('[1, 1]', 'listed twice'), ('[0.5]', 'expected a list of row numbers'), ('{}', 'expected a list of row numbers'),
])
def test_indices_that_are_wrong(broken, rows, message):
    folder = broken / 'training_folder' / 'testset_ratio_0.3' / 'split_0' / '1'
    (folder / 'train_indices.json').write_text(rows)
    with pytest.raises(DataError, match=f'train_indices.json.*{message}'):
        read_clear(broken, feature_type=FEATURE_TYPE)


@pytest.mark.parametrize('value, message', [
    (torch.zeros(12, 5), 'expected \\(features, class indices\\)'),
    ((torch.zeros(12, 5), [0] * 11), '12 feature rows, but 11 class indices'),
    ((torch.zeros(12), [0] * 12), 'shape \\(N, D\\)'),
    ((torch.zeros(12, 5), [0] * 11 + [3]), 'row 11 has class index 3, expected 0 ... 2'),
    ((torch.full((12, 5), torch.nan), [0] * 12), '12 feature rows hold NaN'),
    (([torch.zeros(5)] * 11 + [torch.zeros(4)], [0] * 12), 'different widths'),
    ((torch.zeros(12, 5), [0] * 12), 'does not belong to .*all.txt'),
    ((torch.zeros(0, 5), []), 'is empty'),
    ((torch.zeros(12, 5), None), 'expected class indices as a list or tensor, found NoneType'),
    ((torch.zeros(12, 5), 3), 'found int'), ((torch.zeros(12, 5), torch.tensor(3)), 'found int'),
    ((torch.zeros(12, 5), torch.zeros(12, 1, dtype=torch.int64)), 'row 0 has class index \\[0\\]'),
    ((torch.zeros(12, 5), [True] * 12), 'row 0 has class index True'),
    ((torch.zeros(12, 5).to_sparse(), [0] * 12), 'sparse'), ((torch.empty(12, 5, device='meta'), [0] * 12), 'meta'),
    ((torch.zeros(1).expand(10**5, 10**5), [0] * 12), 'far larger than the file'),
    ((torch.zeros(12, 5, dtype=torch.complex64), [0] * 12), 'complex'), ((None, [0] * 12), 'found NoneType'),
    (([1, 2], [0, 0]), 'rows of shape'),
])
def test_feature_files_that_are_wrong(broken, value, message):
    path = broken / 'training_folder' / 'features' / FEATURE_TYPE / '1' / 'all.pth'
    torch.save(value, path)
    with pytest.raises(DataError, match=f'all.pth.*{message}'):
        read_clear(broken, feature_type=FEATURE_TYPE)


def test_damaged_and_missing_feature_files(broken):
    path = broken / 'training_folder' / 'features' / FEATURE_TYPE / '1' / 'all.pth'
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match='all.pth'):
        read_clear(broken, feature_type=FEATURE_TYPE)
    path.unlink()
    with pytest.raises(DataError, match='all.pth is missing'):
        read_clear(broken, feature_type=FEATURE_TYPE)


def test_feature_files_run_no_code(broken):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (broken / 'trapped',))

    torch.save(Trap(), broken / 'training_folder' / 'features' / FEATURE_TYPE / '1' / 'all.pth')
    with pytest.raises(DataError, match='tensors and plain values'):
        read_clear(broken, feature_type=FEATURE_TYPE)
    assert not (broken / 'trapped').exists()


def test_new_layout_entries_that_are_wrong(broken_new):
    path = broken_new / 'train' / 'labeled_metadata' / '1' / 'bus.json'
    good = path.read_text()
    for records, message in (({'7': {'ID': '7'}}, "'7' has no IMG_PATH"),
                             ({'7': {'IMG_PATH': '../../x.jpg'}}, 'outside'),
                             ({'7': {'IMG_PATH': '/x.jpg'}}, 'expected a relative path'), ([1], 'expected')):
        path.write_text(json.dumps(records))
        with pytest.raises(DataError, match=message):
            read_clear(broken_new)
    path.write_text(good)
    index = broken_new / 'train' / 'labeled_metadata.json'
    index.write_text(json.dumps(json.loads(index.read_text()) | {'1': {'buss': 'x.json'}}))
    with pytest.raises(DataError, match="bucket 1 has classes .*'buss'"):
        read_clear(broken_new)


def test_bucket_that_only_train_has_is_left_out_of_iid_and_said(broken_new, caplog):
    index = broken_new / 'test' / 'labeled_metadata.json'
    buckets = json.loads(index.read_text())
    del buckets['2']
    index.write_text(json.dumps(buckets))
    with caplog.at_level('WARNING', logger='clear'):
        data = read_clear(broken_new)
    assert [bucket.name for bucket in data.train] == [bucket.name for bucket in data.test] == ['1', '3']
    assert data.left_out == ('2',) and 'buckets 2 are in only one' in caplog.text
    streaming = read_clear(broken_new, evaluation_protocol='streaming', seed=None)
    assert as_lists(streaming.train[1]) == official(broken_new, 'train', '2')
