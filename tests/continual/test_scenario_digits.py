"""The built-in streams of digits, and the metrics of streams that are not CLEAR's."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from clear.continual.metrics import CLASS_INCREMENTAL_METRICS, ONE_TEST_SET_METRICS, clear_metrics, overlap_mask
from clear.continual.scenarios import TensorBucket, build_scenario
from clear.core.config import configs_folder, load_config
from clear.core.errors import ConfigError
from clear.engine.continual.runner import ContinualRunner

LIMIT = 200


def info_of(kind, **options):
    return build_scenario(dict(type=kind, limit=LIMIT, **options)).info


@pytest.mark.parametrize('size', [28, 32])
def test_rotated_digits_show_every_class_at_every_angle(size):
    info = info_of('RotatedDigits', n_experiences=4, size=size)
    assert info.bucket_names == ['0', '40', '80', '120'] and info.protocol == 'domain-incremental'
    assert info.num_classes == 10 and all(isinstance(dataset, TensorBucket) for dataset in info.train + info.test)
    targets = load_digits().target[:LIMIT]
    share = [int(count * 0.3) for count in np.bincount(targets)]
    for train, test in zip(info.train, info.test):
        assert np.bincount(test.targets).tolist() == share and len(train) + len(test) == LIMIT
        assert train.inputs.shape[1:] == (1, size, size) and -1 <= train.inputs.min() < train.inputs.max() <= 1
    assert all(dataset.targets == info.train[0].targets for dataset in info.train)


def test_a_quarter_turn_is_a_quarter_turn():
    info = info_of('RotatedDigits', n_experiences=2, rotations=[0, 90])
    turned = torch.rot90(info.train[0].inputs, 1, (2, 3))
    assert (turned - info.train[1].inputs).abs().max() < 0.02  # rounding to 256 grey levels


def test_what_is_tested_is_trained_on_at_no_angle():
    info = info_of('RotatedDigits', n_experiences=2, rotations=[0, 180])
    trained = {tuple(torch.rot90(image, -2 * place, (1, 2)).flatten().tolist())
               for place, dataset in enumerate(info.train) for image in dataset.inputs.round(decimals=1)}
    tested = {tuple(image.flatten().tolist()) for image in info.test[0].inputs.round(decimals=1)}
    assert not trained & tested


def test_split_digits_bring_each_class_once():
    info = info_of('SplitDigits', class_order=[9, 8, 7, 6, 5, 4, 3, 2, 1, 0], seed=1)
    assert info.bucket_names == ['9-8', '7-6', '5-4', '3-2', '1-0'] and info.protocol == 'class-incremental'
    for dataset in (info.train, info.test):
        assert [sorted(set(bucket.targets)) for bucket in dataset] == [[8, 9], [6, 7], [4, 5], [2, 3], [0, 1]]
    assert sum(map(len, info.train + info.test)) == LIMIT
    benchmark = build_scenario(dict(type='SplitDigits', limit=LIMIT))
    assert benchmark.n_classes_per_exp == [2] * 5 and benchmark.classes_order == list(range(10))
    assert [experience.classes_in_this_experience for experience in benchmark.train_stream] == [
        [0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_the_fingerprint_knows_split_order_and_pixels():
    prints = {info_of('SplitDigits', **options).fingerprint for options in (
        {}, dict(seed=1), dict(size=28), dict(n_experiences=2), dict(class_order=[1, 0, 2, 3, 4, 5, 6, 7, 8, 9]))}
    assert len(prints) == 5 and info_of('SplitDigits').fingerprint == info_of('SplitDigits', seed=0).fingerprint


@pytest.mark.parametrize('kind, options, message', [
    ('SplitDigits', dict(n_experiences=3), 'ten digits divide into 1, 2, 5 or 10'),
    ('SplitDigits', dict(class_order=[0, 1]), 'the ten digits 0 ... 9'), ('SplitDigits', dict(size=64), 'size is 64'),
    ('RotatedDigits', dict(rotations=[1, 2]), '2 angles for 5'), ('RotatedDigits', dict(n_experiences=0), 'is 0'),
    ('RotatedDigits', dict(n_experiences=2, rotations=[5, 5]), 'an angle twice'),
    ('RotatedDigits', dict(seed=None), 'seed is None')])
def test_wrong_options_are_refused(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        info_of(kind, **options)


def run_demo(name, **options):
    cfg = load_config(configs_folder() / 'demo' / f'naive_lenet5_{name}-digits.py')[0].to_dict()
    cfg['scenario'].update(limit=LIMIT)
    cfg['cl_strategy'].update(options)
    runner = ContinualRunner({**cfg, 'loggers': [], 'metrics': [], 'device': 'cpu'})
    runner.build()
    return runner.train()


def test_shipped_configs_run():
    results = run_demo('split', train_epochs=6)
    assert results.protocol == 'clear/class-incremental/v1'
    assert set(results.metrics) == {*CLASS_INCREMENTAL_METRICS, 'train_overlap'}
    matrix = np.array(results.acc_matrix)
    # Classes that no one has shown are not recognised, and fine-tuning forgets the ones before.
    assert matrix[np.triu_indices(5, 1)].mean() < 0.05 and results.metrics['forgetting'] > 0.5
    assert results.metrics['learning_accuracy'] > 0.6


@pytest.mark.slow
def test_shipped_rotated_config_forgets_slowly():
    results = run_demo('rotated', train_epochs=8)
    assert results.protocol == 'clear/domain-incremental/v1' and results.metrics['in_domain'] > 0.7
    assert results.metrics['in_domain'] > results.metrics['next_domain'] > 0.2


# Metrics

MATRIX = [[0.9, 0.0, 0.1], [0.5, 0.8, 0.0], [0.3, 0.4, 0.7]]


def test_class_incremental_metrics_by_hand():
    metrics = clear_metrics(MATRIX, 'class-incremental')
    assert list(metrics) == [*CLASS_INCREMENTAL_METRICS, 'train_overlap'] and metrics['train_overlap'] == {}
    assert metrics['final_accuracy'] == pytest.approx((0.3 + 0.4 + 0.7) / 3)
    assert metrics['average_incremental_accuracy'] == pytest.approx((0.9 + (0.5 + 0.8) / 2 + (0.3 + 0.4 + 0.7) / 3) / 3)
    assert metrics['learning_accuracy'] == pytest.approx((0.9 + 0.8 + 0.7) / 3)
    assert metrics['forgetting'] == pytest.approx(((0.9 - 0.3) + (0.8 - 0.4)) / 2)
    unfinished = clear_metrics([MATRIX[0], MATRIX[1], [None] * 3], 'class-incremental')
    assert unfinished['final_accuracy'] is None and unfinished['average_incremental_accuracy'] is None


def test_domain_incremental_metrics_are_those_of_clear():
    assert clear_metrics(MATRIX, 'domain-incremental') == clear_metrics(MATRIX, 'iid')


def test_one_test_set_by_hand():
    metrics = clear_metrics([[0.2], [0.5], [0.8]], 'one-test-set')
    assert list(metrics) == [*ONE_TEST_SET_METRICS, 'train_overlap']
    assert metrics['final_accuracy'] == 0.8 and metrics['mean_accuracy'] == pytest.approx(0.5)
    assert clear_metrics([[0.2], [None]], 'one-test-set')['final_accuracy'] is None
    assert overlap_mask(3, 'one-test-set') == [[False]] * 3
    with pytest.raises(ValueError, match='one column; row 0 has 3'):
        clear_metrics(MATRIX, 'one-test-set')
    with pytest.raises(ValueError, match='square'):
        clear_metrics([[0.2], [0.5]], 'class-incremental')


@pytest.mark.parametrize('protocol', ['class-incremental', 'domain-incremental'])
def test_only_streaming_tests_what_was_trained_on(protocol):
    assert overlap_mask(2, protocol) == [[False, False], [False, False]]
