"""Buckets and lists of CLEAR that lack a class are named in one warning."""

import json

import pytest
import torch
from clear_lists import listed
from clear_trees import FEATURE_TYPE, write_clear_tree

from clear.datasets.make.demo import write_demo
from clear.datasets.readers.clear.clear import read_clear


def without(root, bucket, label, parts=('train', 'test')):
    """Take a class out of the lists of a bucket: out of the given parts, and out of the whole bucket if out of both."""
    name = (root / 'class_names.txt' if (root / 'training_folder').is_dir() else root / 'train' / 'class_names.txt'
            ).read_text().splitlines()[label]
    if not (root / 'training_folder').is_dir():
        for part in parts:
            for index in [root / part / 'labeled_metadata.json', *(root / part).glob('features/*/features.json')]:
                entries = json.loads(index.read_text())
                del entries[bucket][name]
                index.write_text(json.dumps(entries))
        return
    folder = root / 'training_folder'
    every, targets = listed(folder / 'filelists' / bucket / 'all.txt')
    kept = [row for row, target in enumerate(targets) if target != label or len(parts) == 1]
    for place in folder.glob(f'*/split_*/{bucket}'):
        for part in ('train', 'test'):
            rows = [row for row in json.loads((place / f'{part}_indices.json').read_text())
                    if part not in parts or targets[row] != label]
            (place / f'{part}.txt').write_text('\n'.join(f'{every[row]} {targets[row]}' for row in rows))
            (place / f'{part}_indices.json').write_text(json.dumps([kept.index(row) for row in rows]))
    (folder / 'filelists' / bucket / 'all.txt').write_text('\n'.join(f'{every[row]} {targets[row]}' for row in kept))
    for path in folder.glob(f'features/*/{bucket}/all.pth'):
        features, _ = torch.load(path, weights_only=True)
        torch.save((features[kept], [targets[row] for row in kept]), path)


def warnings_of(caplog, root, **options):
    """What one reading of the tree warns of."""
    caplog.clear()
    with caplog.at_level('WARNING', logger='clear'):
        read_clear(root, **options)
    return [record.getMessage() for record in caplog.records]


STREAMING = dict(evaluation_protocol='streaming', seed=None)


@pytest.mark.parametrize('layout', ['old', 'new'])
@pytest.mark.parametrize('feature_type', [None, FEATURE_TYPE])
def test_a_bucket_without_a_class_is_named_in_one_warning(tmp_path, caplog, layout, feature_type):
    root = write_clear_tree(tmp_path, layout=layout, per_class=10, features=3)
    options = dict(feature_type=feature_type)
    assert warnings_of(caplog, root, **options) == warnings_of(caplog, root, **options, **STREAMING) == []
    without(root, '3', 2)
    [message] = warnings_of(caplog, root, **options)
    assert message == (f'{root}: some buckets lack classes, and accuracy on a test list is that of the classes in it. '
                       "bucket 3 (train and test): 'bus'")
    [message] = warnings_of(caplog, root, **options, **STREAMING)
    assert message.endswith("in it. bucket 3: 'bus'")


@pytest.mark.parametrize('layout', ['old', 'new'])
@pytest.mark.parametrize('part', ['train', 'test'])
def test_a_list_without_a_class_is_told_from_a_bucket_without_it(tmp_path, caplog, layout, part):
    root = write_clear_tree(tmp_path, layout=layout, per_class=10)
    without(root, '2', 1, parts=[part])
    [message] = warnings_of(caplog, root)
    assert message.endswith(f"in it. bucket 2 ({part}): 'field hockey'")


def test_a_few_shot_rest_without_a_class_is_named(tmp_path, caplog):
    root = write_clear_tree(tmp_path, per_class=4, shots=(2,))
    assert warnings_of(caplog, root, shot=2) == []
    without(root, '1', 0, parts=['test'])
    [message] = warnings_of(caplog, root, shot=2)
    assert message.endswith("in it. bucket 1 (test): 'BACKGROUND'")


def test_the_warning_of_lacking_classes_is_bounded(tmp_path, caplog):
    root = write_clear_tree(tmp_path, layout='new', num_buckets=8, num_classes=9)
    for bucket in '1234567':
        for label in range(1, 9):
            without(root, bucket, label)
    [message] = warnings_of(caplog, root)
    assert "bucket 5 (train and test): 'field hockey', 'bus', 'camera', 'cosplay', 'dress' and 3 more" in message
    assert message.endswith('; and 2 more') and 'bucket 6' not in message


@pytest.mark.parametrize('layout', ['old', 'new'])
def test_demo_data_lack_no_class(tmp_path, caplog, layout):
    write_demo(tmp_path / 'demo', layout=layout, seeds=[0], limit=100)
    assert warnings_of(caplog, tmp_path / 'demo') == []
    assert warnings_of(caplog, tmp_path / 'demo', **STREAMING) == []
