"""Streams of experiences from a CLEAR folder."""

import numpy as np
import pytest
import torch
from clear_trees import FEATURE_TYPE, write_clear_tree
from PIL import Image

from clear.continual.scenarios import TensorBucket, clear_benchmark
from clear.core.errors import ConfigError, DataError, RegistryError
from clear.datasets import BucketDataset, read_clear
from clear.registry import SCENARIOS

TO_TENSOR = [dict(type='ToTensor')]
FLIP = [dict(type='RandomHorizontalFlip'), dict(type='ToTensor')]


@pytest.fixture(scope='module', params=['old', 'new'])
def tree(request, tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp(request.param), layout=request.param, num_buckets=12, per_class=4,
                            features=5, image_size=8)


def check_stream(stream, expected_name):
    """Task labels, order and class ids of a stream of experiences over `info`'s data sets."""
    for number, experience in enumerate(stream):
        assert experience.current_experience == number and experience.task_labels == [number]
        assert experience.origin_stream.name == expected_name
        assert set(experience.dataset.targets_task_labels) == {number}


# Experiences


def test_features_become_experiences_in_the_order_of_the_buckets(tree):
    benchmark = clear_benchmark(str(tree), feature_type=FEATURE_TYPE)
    data = read_clear(tree, feature_type=FEATURE_TYPE)
    assert benchmark.info.bucket_names == [str(number) for number in range(1, 13)]  # 10 after 9, not after 1
    check_stream(benchmark.train_stream, 'train')
    check_stream(benchmark.test_stream, 'test')
    for stream, buckets in ((benchmark.train_stream, data.train), (benchmark.test_stream, data.test)):
        for experience, bucket in zip(stream, buckets, strict=True):
            samples = list(experience.dataset)
            assert torch.equal(torch.stack([x for x, *_ in samples]), bucket.features)
            assert [y for _, y, _ in samples] == bucket.targets.tolist() == list(experience.dataset.targets)
            # Buckets share their classes: ids stay as they are in every experience.
            assert sorted(experience.classes_in_this_experience) == sorted({*bucket.targets.tolist()})


def test_images_become_experiences(tree):
    benchmark = clear_benchmark(str(tree), train_transform=TO_TENSOR, eval_transform=TO_TENSOR)
    data = read_clear(tree)
    assert all(isinstance(bucket, BucketDataset) for bucket in benchmark.info.train + benchmark.info.test)
    for experience, bucket in zip(benchmark.test_stream, data.test, strict=True):
        for (image, target, _), path, expected in zip(experience.dataset, bucket.paths, bucket.targets, strict=True):
            pixels = np.asarray(Image.open(data.root / path).convert('RGB'))
            np.testing.assert_allclose(image.permute(1, 2, 0) * 255, pixels, atol=1e-3)
            assert target == expected


def test_train_and_test_transforms_are_not_mixed_up(tree):
    grey = [dict(type='Grayscale'), *TO_TENSOR]
    info = clear_benchmark(str(tree), train_transform=grey, eval_transform=TO_TENSOR).info
    assert info.train[0][0][0].shape == (1, 8, 8) and info.test[0][0][0].shape == (3, 8, 8)


def test_info_says_what_the_stream_is(tree):
    info = clear_benchmark(str(tree), feature_type=FEATURE_TYPE).info
    assert (info.num_classes, info.protocol) == (3, 'iid')
    assert info.class_names == ['BACKGROUND', 'field hockey', 'bus']
    assert info.fingerprint == read_clear(tree, feature_type=FEATURE_TYPE).fingerprint


# Protocols and seeds


def test_iid_without_a_seed_means_seed_0(tmp_path):
    root = write_clear_tree(tmp_path, features=5, seeds=(0, 1), images=False)
    prints = [clear_benchmark(str(root), feature_type=FEATURE_TYPE, seed=seed).info.fingerprint
              for seed in (None, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_streaming_trains_and_tests_on_whole_buckets(tree):
    info = clear_benchmark(str(tree), feature_type=FEATURE_TYPE, evaluation_protocol='streaming').info
    assert info.protocol == 'streaming' and [len(bucket) for bucket in info.train] == [12] * 12
    for train, test in zip(info.train, info.test, strict=True):
        assert torch.equal(train.inputs, test.inputs) and train.targets == test.targets
    with pytest.raises(ConfigError, match='seed must be None'):
        clear_benchmark(str(tree), feature_type=FEATURE_TYPE, evaluation_protocol='streaming', seed=0)


def test_few_shots(tmp_path):
    root = write_clear_tree(tmp_path, features=5, per_class=6, shots=(2,), images=False)
    info = clear_benchmark(str(root), feature_type=FEATURE_TYPE, shot=2).info
    assert [len(bucket) for bucket in info.train] == [6] * 3 and [len(bucket) for bucket in info.test] == [12] * 3


# Caches and bad images


def test_cached_images_with_a_deterministic_transform_are_one_block(tree):
    plain, cached = (clear_benchmark(str(tree), train_transform=FLIP, eval_transform=TO_TENSOR, cache=cache).info
                     for cache in (None, 'ram'))
    assert all(isinstance(bucket, TensorBucket) for bucket in cached.test)
    assert all(isinstance(bucket, BucketDataset) for bucket in cached.train)  # flips differ from epoch to epoch
    for one, other in zip(plain.test, cached.test, strict=True):
        assert one.targets == other.targets
        assert torch.equal(torch.stack([x for x, _ in one]), other.inputs)


def test_bad_images_are_listed_in_the_work_dir(tmp_path):
    root = write_clear_tree(tmp_path / 'data', per_class=10, image_size=8)
    lost = read_clear(root).test[1].paths[0]
    (root / lost).write_bytes(b'no image')
    options = dict(train_transform=TO_TENSOR, eval_transform=TO_TENSOR, cache='ram', work_dir=str(tmp_path / 'run'))
    info = clear_benchmark(str(root), max_bad_fraction=0.2, **options).info
    assert [len(bucket) for bucket in info.test] == [9, 8, 9]
    assert info.bad_samples.counts()['test'] == 1
    assert (root / lost).stem in (tmp_path / 'run' / 'bad_samples.jsonl').read_text()
    with pytest.raises(DataError, match='1'):
        clear_benchmark(str(root), max_bad_fraction=0.01, **options)


@pytest.mark.parametrize('options, expected', [
    (dict(), 'scenario.train_transform is needed for images'),
    (dict(train_transform=TO_TENSOR), 'scenario.eval_transform is needed for images'),
    (dict(feature_type=FEATURE_TYPE, cache='disc'), "scenario.cache is 'disc'; expected one of None, 'ram'"),
    (dict(feature_type=FEATURE_TYPE, seed=7), 'seed is 7'),
    (dict(feature_type='clip'), 'clip'),
    (dict(feature_type=FEATURE_TYPE, evaluation_protocol='iidd'), "expected 'iid' or 'streaming'")])
def test_wrong_options_are_refused(options, expected, tree):
    with pytest.raises((ConfigError, DataError), match=expected):
        clear_benchmark(str(tree), **options)


# Building blocks


def test_tensor_bucket_gives_rows_and_whole_numbers():
    bucket = TensorBucket(torch.arange(6.0).view(2, 3).T, [2, 0, 1])
    assert len(bucket) == 3 and bucket.inputs.is_contiguous() and bucket.labels.dtype == torch.int64
    x, y = bucket[1]
    assert x.tolist() == [1.0, 4.0] and y == 0 and type(y) is int
    with pytest.raises(ValueError, match='3 inputs and 2 targets'):
        TensorBucket(torch.zeros(3, 1), [0, 1])


def test_the_name_clear_means_our_reader_and_others_avalanches():
    assert SCENARIOS.get('CLEAR') is clear_benchmark
    assert SCENARIOS.get('SplitMNIST').__module__.startswith('avalanche.')
    with pytest.raises(RegistryError, match=r"no type 'CLEAR10'.*'CLEAR' \(clear\)"):
        SCENARIOS.require('CLEAR10')
