"""Streams of one's own whose classes come one after the other: folders of experiences, and a folder of classes."""

import json
import logging

import pytest
from PIL import Image

from clear.continual.metrics import clear_metrics
from clear.continual.scenarios import build_scenario
from clear.core.errors import ConfigError, DataError
from clear.engine.continual.runner import ContinualRunner

TO_TENSOR = dict(train_transform=[dict(type='ToTensor')], eval_transform=[dict(type='ToTensor')])


@pytest.fixture(autouse=True)
def heard(monkeypatch):
    """The log reaches caplog, whatever a program has set up in this process before."""
    monkeypatch.setattr(logging.getLogger('clear'), 'handlers', [])
    monkeypatch.setattr(logging.getLogger('clear'), 'propagate', True)
    monkeypatch.setattr(logging.getLogger('clear'), 'level', logging.INFO)


def write(root, *places, count=4):
    for number, place in enumerate(places):
        (root / place).mkdir(parents=True)
        for image in range(count):
            Image.new('RGB', (4, 4), (40 * number % 256, 10 * image, 0)).save(root / place / f'{image}.png')
    return str(root)


def info_of(kind, root, **options):
    return build_scenario(dict(type=kind, data_root=root, **TO_TENSOR, **options)).info


@pytest.mark.parametrize('layout', ['{time}/{name}', '{part}/{time}/{name}', '{time}/{part}/{name}'])
def test_folders_of_experiences_are_recognised(layout, tmp_path, caplog):
    """Numbered by one text and a number: exp_10 comes last, not second."""
    parts = ('train', 'test') if '{part}' in layout else ('',)
    root = write(tmp_path, *(layout.format(time=f'exp_{number}', name=name, part=part) for part in parts
                             for number, name in ((1, 'cat'), (2, 'dog'), (10, 'ant'))))
    caplog.set_level(logging.INFO, 'clear')
    info = info_of('FolderByTime', root)
    assert info.bucket_names == ['exp_1', 'exp_2', 'exp_10'] and info.protocol == 'class-incremental'
    assert [info.class_names[bucket.targets[0]] for bucket in info.train] == ['cat', 'dog', 'ant']
    assert "the stream is class-incremental: exp_1: 'cat'; exp_2: 'dog'; exp_10: 'ant'" in caplog.text


CLASSES = ('ant', 'bee', 'cat', 'dog', 'emu', 'fox')


@pytest.mark.parametrize('options, expected', [
    (dict(n_experiences=3), ['ant-bee', 'cat-dog', 'emu-fox']),
    (dict(classes_per_experience=2), ['ant-bee', 'cat-dog', 'emu-fox']),
    (dict(classes_per_experience=[4, 1, 1]), ['ant...dog', 'emu', 'fox']),
    (dict(n_experiences=2, class_order=['fox', 'dog', 'ant', 'bee', 'cat', 'emu']), ['fox-dog-ant', 'bee-cat-emu'])])
@pytest.mark.parametrize('parts', [('',), ('train', 'test')])
def test_a_folder_of_classes_is_cut_into_experiences(options, expected, parts, tmp_path):
    root = write(tmp_path, *(f'{part}/{name}'.lstrip('/') for part in parts for name in CLASSES))
    info = info_of('FolderByClass', root, **options)
    assert info.bucket_names == expected and info.class_names == list(CLASSES)
    assert info.protocol == 'class-incremental'
    for buckets, count in ((info.train, 3 if parts == ('',) else 4), (info.test, 1 if parts == ('',) else 4)):
        assert all(len(bucket) == count * len(set(bucket.targets)) for bucket in buckets)
    paths = {path for bucket in info.train + info.test for path in bucket.paths}
    assert len(paths) == 24 * len(parts)
    if parts != ('',):
        assert all(path.startswith('train/') for bucket in info.train for path in bucket.paths)


def test_the_drawn_order_depends_on_its_seed_alone(tmp_path):
    root = write(tmp_path, *CLASSES)
    names = [info_of('FolderByClass', root, n_experiences=3, order_seed=order, seed=split).bucket_names
             for order, split in ((0, 0), (0, 1), (1, 0))]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize('options, message', [
    ({}, 'needs n_experiences or classes_per_experience'),
    (dict(n_experiences=4), 'has 6 classes, which do not divide'),
    (dict(classes_per_experience=[4, 1]), 'adds up to 5 classes'), (dict(classes_per_experience=4), 'adds up to 4'),
    (dict(n_experiences=3, class_order=['ant', 'bee']), r"class_order must name the 6 classes .*'cat'"),
    (dict(n_experiences=3, class_order=list(CLASSES), order_seed=1), 'give one of them'),
    (dict(classes_per_experience=0), 'classes_per_experience'), (dict(n_experiences='3'), 'n_experiences')])
def test_what_does_not_divide_is_refused(options, message, tmp_path):
    root = write(tmp_path, *CLASSES, count=2)
    with pytest.raises(ConfigError, match=message):
        info_of('FolderByClass', root, **options)
    with pytest.raises(DataError, match='does not exist'):
        info_of('FolderByClass', root + '_', n_experiences=1)


def test_metrics_that_compare_unseen_classes_are_not_given(tmp_path, caplog):
    """Class b comes in the second of three buckets: what is tested on it before has no place in CLEAR's metrics."""
    root = write(tmp_path, '1/a', '1/c', '2/a', '2/b', '3/a', '3/c')
    runner = ContinualRunner(dict(
        scenario=dict(type='FolderByTime', data_root=root, cache='ram', **TO_TENSOR),
        model=dict(neck=dict(type='GlobalAveragePooling'),
                   head=dict(type='LinearClsHead', num_classes=3, in_channels=3)),
        cl_strategy=dict(type='Naive', train_mb_size=4, optimizer=dict(type='SGD', lr=0.1)), loggers=[], metrics=[],
        device='cpu', report=False), tmp_path / 'run')
    runner.build()
    assert runner.info.unseen == [[False, True, False], [False, False, False], [False, False, False]]
    assert "'2' tests 'b', which '1' does not train on" in caplog.text
    runner.train()
    results = json.loads((tmp_path / 'run' / 'results.json').read_text())
    whole = clear_metrics(results['acc_matrix'], 'iid')
    unknown = ('next_domain', 'forward_transfer', 'challenge_score')
    assert all(results['metrics'][name] is None for name in unknown)
    assert {name: value for name, value in results['metrics'].items() if name not in unknown} == \
        {name: value for name, value in whole.items() if name not in unknown}
    assert results['acc_matrix'][0][1] is not None
