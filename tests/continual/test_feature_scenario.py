"""CLEAR on feature banks: which features an experience holds, and a run from a config."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from clear_trees import write_clear_tree
from tiny_encoder import TinyEncoder

from clear.continual.scenarios import clear_benchmark
from clear.core.errors import ConfigError, DataError
from clear.datasets import read_clear, read_images
from clear.features import extract, write_bank

ROOT = Path(__file__).parents[2]
ENCODER = dict(type='TorchvisionEncoder', arch='squeezenet1_1', preprocess=dict(resize=32, crop=32))


@pytest.fixture(params=['old', 'new'])
def tree(request, tmp_path):
    return write_clear_tree(tmp_path / 'tree', layout=request.param, seeds=(0, 1), shots=(1,))


def make_bank(tree, out, **options):
    return extract(TinyEncoder(), dict(type='CLEAR', data_root=str(tree)), out, dtype='float32', **options)


def info_of(tree, bank, **options):
    return clear_benchmark(str(tree), feature=dict(bank=str(bank.path)), **options).info


def by_hand(source, encoder, ids):
    """Features of images by id, one after another."""
    rows = [source.texts('id').index(name) for name in ids]
    transform = encoder.preprocess.build()
    return torch.stack([encoder(transform(source.open_image(row))[None])[0] for row in rows])


@pytest.mark.parametrize('options', [dict(seed=0), dict(seed=1), dict(evaluation_protocol='streaming', seed=None),
                                     dict(seed=0, shot=1)])
def test_experiences_are_the_features_of_the_lists(tree, tmp_path, options):
    if 'shot' in options and (tree / 'train').exists():
        pytest.skip('the new layout has no few-shot lists')
    info = info_of(tree, make_bank(tree, tmp_path / 'bank'), **options)
    lists = read_clear(tree, **options)
    source, encoder = read_images(dict(type='CLEAR', data_root=str(tree))), TinyEncoder()
    for datasets, buckets in ((info.train, lists.train), (info.test, lists.test)):
        assert len(datasets) == 3
        for dataset, bucket in zip(datasets, buckets):
            assert torch.allclose(dataset.inputs, by_hand(source, encoder, bucket.ids), rtol=1e-5, atol=1e-6)
            assert dataset.targets == bucket.targets.tolist()
    assert (info.class_names, info.protocol) == (lists.class_names, lists.protocol)


def test_unreadable_images_are_left_out_and_counted(tmp_path):
    tree = write_clear_tree(tmp_path / 'tree', per_class=10)
    lists = read_clear(tree, seed=0)
    bad = [lists.train[1].paths[2], lists.test[0].paths[0], lists.test[0].paths[1]]
    for name in bad:
        (tree / name).write_bytes(b'')
    bank = make_bank(tree, tmp_path / 'bank', max_bad_fraction=0.2)
    info = info_of(tree, bank, seed=0, max_bad_fraction=0.2, work_dir=str(tmp_path / 'run'))
    assert [len(dataset) for dataset in info.train] == [21, 20, 21]
    assert [len(dataset) for dataset in info.test] == [7, 9, 9]
    assert info.bad_samples.counts() == {'train': 1, 'test': 2}
    records = [json.loads(line) for line in (tmp_path / 'run' / 'bad_samples.jsonl').read_text().splitlines()]
    assert sorted(record['id'] for record in records) == sorted(bad)
    assert {record['reason'] for record in records} == {'not an image'}
    with pytest.raises(DataError, match='2 of 27 test images cannot be read'):
        info_of(tree, bank, seed=0, max_bad_fraction=0.06)


def test_fingerprint_tells_banks_and_splits_apart(tmp_path):
    tree = write_clear_tree(tmp_path / 'tree', seeds=(0, 1))
    one = make_bank(tree, tmp_path / 'one')
    other = extract(TinyEncoder(seed=1), dict(type='CLEAR', data_root=str(tree)), tmp_path / 'two', dtype='float32')
    prints = [info_of(tree, bank, seed=seed).fingerprint for bank in (one, other) for seed in (0, 1)]
    assert len(set(prints)) == 4 and prints[0] == info_of(tree, one, seed=0).fingerprint


def test_bank_of_other_data_is_refused(tmp_path):
    tree = write_clear_tree(tmp_path / 'tree')
    bank = make_bank(tree, tmp_path / 'bank')
    path = tree / read_clear(tree, seed=0).train[0].paths[0]
    path.write_bytes(path.read_bytes() + b'one more')
    with pytest.raises(DataError, match='made from other images') as error:
        info_of(tree, bank, seed=0)
    assert bank.meta['identity']['data'] in str(error.value)


def test_bank_without_an_image_or_with_another_label_is_refused(tmp_path):
    tree = write_clear_tree(tmp_path / 'tree')
    source = read_images(dict(type='CLEAR', data_root=str(tree)))
    features = np.zeros((len(source), 2), np.float32)
    short = write_bank(tmp_path / 'short', features[1:], source.label_array()[1:], ids=source.texts('id')[1:],
                       class_names=source.class_names)
    with pytest.raises(DataError, match='has no image'):
        info_of(tree, short, seed=0)
    wrong = write_bank(tmp_path / 'wrong', features, (source.label_array() + 1) % 3, ids=source.texts('id'),
                       class_names=source.class_names)
    with pytest.raises(DataError, match='in the list of bucket 1'):
        info_of(tree, wrong, seed=0)
    classes = write_bank(tmp_path / 'classes', features, source.label_array(), ids=source.texts('id'),
                         class_names=['a', 'b', 'c'])
    with pytest.raises(DataError, match='3 classes'):
        info_of(tree, classes, seed=0)


@pytest.mark.parametrize('options, message', [
    (dict(feature=dict(bank='b'), feature_type='moco_b0'), 'give one of them'),
    (dict(feature=dict()), 'expected dict'), (dict(feature='b'), 'expected dict'),
    (dict(feature=dict(bank='b', encoder=ENCODER)), 'expected dict'),
    (dict(feature=dict(bank='b', dtype='float16')), "no key 'dtype'"),
    (dict(feature=dict(encoder=ENCODER, batchsize=3)), "'batch_size'")])
def test_wrong_feature_keys(tmp_path, options, message):
    tree = write_clear_tree(tmp_path / 'tree', images=True, num_buckets=1)
    with pytest.raises(ConfigError, match=message):
        clear_benchmark(str(tree), seed=0, **options)


# Through tools/train.py


def train(config, work_dir, *options):
    spec = importlib.util.spec_from_file_location('train', ROOT / 'tools' / 'train.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(config), '--work-dir', str(work_dir), '--device', 'cpu', *options])


def write_config(path, tree, feature, in_channels=512):
    path.write_text(f"""
scenario = dict(type='CLEAR', data_root={str(tree)!r}, seed=0, feature={feature!r})
model = dict(head=dict(type='LinearClsHead', num_classes=3, in_channels={in_channels}))
cl_strategy = dict(type='Naive', train_mb_size=8, train_epochs=2, optimizer=dict(type='SGD', lr=0.1),
                   loss=dict(type='CrossEntropyLoss'))
loggers, metrics, threads = [], [], 1
""")
    return path


def test_run_makes_the_bank_and_the_next_run_finds_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tree = write_clear_tree(tmp_path / 'tree', num_buckets=2)
    config = write_config(tmp_path / 'naive.py', tree, dict(encoder=ENCODER, dtype='float32', batch_size=8))
    assert train(config, 'first') == 0
    bank, = Path('work_dirs/banks').iterdir()
    written = {path.name: path.stat().st_mtime_ns for path in bank.iterdir()}
    assert 'made now: 24 images' in capsys.readouterr().out
    assert train(config, 'second') == 0
    assert 'found again' in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in bank.iterdir()} == written
    first, second = (json.loads((Path(name) / 'results.json').read_text()) for name in ('first', 'second'))
    assert first['acc_matrix'] == second['acc_matrix'] and None not in first['acc_matrix'][1]
    assert first['extras']['bad_samples'] == {'train': 0, 'test': 0}
    # The path of the bank gives the same numbers as the encoder that made it.
    assert train(write_config(tmp_path / 'bank.py', tree, dict(bank=str(bank))), 'third') == 0
    assert json.loads(Path('third/results.json').read_text())['acc_matrix'] == first['acc_matrix']
    assert extract(ENCODER, dict(type='CLEAR', data_root=str(tree)), dtype='float32').path.name == bank.name


def test_head_of_another_width_is_refused(tmp_path, capsys):
    tree = write_clear_tree(tmp_path / 'tree', num_buckets=2)
    bank = make_bank(tree, tmp_path / 'bank')
    assert train(write_config(tmp_path / 'naive.py', tree, dict(bank=str(bank.path))), tmp_path / 'run') == 2
    error = capsys.readouterr().err
    assert '512' in error and 'in_channels' in error and '(2, 6)' in error
