"""Images of a bucket: draws that depend on the seed alone, stand-ins, and materialised tensors."""

import json
import pickle
import random

import numpy as np
import pytest
import torch
from clear_trees import write_clear_tree
from PIL import Image
from torch.utils.data import DataLoader

from clear.core.errors import ConfigError, DataError
from clear.datasets.images.bad_samples import BadSampleError, BadSamples
from clear.datasets.loaders.buckets import BucketDataset, SampleContext
from clear.datasets.loaders.tensors import to_tensors
from clear.datasets.readers.clear.clear import read_clear
from clear.datasets.transforms import build_transform

TO_TENSOR = [{'type': 'Resize', 'size': [8, 8]}, {'type': 'ToTensor'}]


class DrawAll:
    """Draws from all three global generators, as augmentations of different libraries do."""

    def __call__(self, image):
        return torch.tensor([torch.rand(1).item(), np.random.rand(), random.random()])


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    root = write_clear_tree(tmp_path_factory.mktemp('tree'), num_buckets=1, per_class=4, image_size=12)
    return root, read_clear(root, evaluation_protocol='streaming', seed=None).train[0]


@pytest.fixture
def breakable(tmp_path):
    root = write_clear_tree(tmp_path / 'tree', num_buckets=1, per_class=4, image_size=12)
    return root, read_clear(root, evaluation_protocol='streaming', seed=None).train[0]


def make(tree, transform=TO_TENSOR, *, is_train=True, context=None, cache=None, path=None, limit=1.0):
    root, bucket = tree
    transform = build_transform(transform) if isinstance(transform, list) else transform
    bad = BadSamples(path, {'train': len(bucket), 'test': len(bucket)}, max_bad_fraction=limit)
    return BucketDataset(root, bucket, transform, is_train=is_train, context=context or SampleContext(),
                         bad_samples=bad, cache=cache)


def spoil(tree, row, content=b'no image'):
    root, bucket = tree
    (root / bucket.paths[row]).write_bytes(content)


def draws(dataset, order, workers=0, persistent=False):
    loader = DataLoader(dataset, sampler=order, batch_size=3, num_workers=workers, persistent_workers=persistent)
    values = torch.cat([images for images, _ in loader])
    return dict(zip(order, values))


@pytest.mark.parametrize('cache', [None, 'ram'])
def test_images_and_targets(tree, cache):
    root, bucket = tree
    dataset = make(tree, [{'type': 'PILToTensor'}], cache=cache)
    assert dataset.targets == bucket.targets.tolist() and dataset.ids == bucket.ids and len(dataset) == 12
    for _ in range(2):  # the second pass comes from the cache
        for row in range(12):
            image, target = dataset[row]
            expected = np.asarray(Image.open(root / bucket.paths[row]).convert('RGB'))
            assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)
            assert type(target) is int and target == bucket.targets[row]
    assert torch.equal(dataset[-1][0], dataset[11][0])
    with pytest.raises(IndexError):
        dataset[12]


def test_cache_decodes_once_and_is_not_sent_to_workers(breakable, monkeypatch):
    dataset = make(breakable, cache='ram')
    first = [dataset[row][0] for row in range(12)]
    for row in range(12):
        spoil(breakable, row)
    assert all(torch.equal(dataset[row][0], first[row]) for row in range(12))
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.ids == dataset.ids and len(pickle.dumps(dataset)) < 12 * 12 * 12 * 3 + 12000
    with pytest.raises(DataError):
        copy[0]


def test_draws_do_not_depend_on_order_workers_or_process(tree):
    dataset = make(tree, DrawAll(), context=SampleContext(seed=5, experience=2, epoch=1))
    order = list(range(12))
    expected = draws(dataset, order)
    assert len({tuple(value.tolist()) for value in expected.values()}) == 12
    shuffled = order[::-1][3:] + order[::-1][:3]
    for values in (draws(dataset, shuffled), draws(dataset, order, workers=2), draws(dataset, shuffled, workers=2),
                   draws(pickle.loads(pickle.dumps(dataset)), order)):
        assert all(torch.equal(values[row], expected[row]) for row in order)
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    assert torch.equal(dataset[7][0], expected[7].float())


@pytest.mark.parametrize('name', ['seed', 'experience', 'epoch'])
def test_draws_depend_on_seed_experience_and_epoch(tree, name):
    context = SampleContext()
    dataset = make(tree, DrawAll(), context=context)
    before = dataset[0][0]
    setattr(context, name, 1)
    assert getattr(context, name) == 1
    after = dataset[0][0]
    assert (before != after).all()
    setattr(context, name, 0)
    assert torch.equal(dataset[0][0], before)


def test_persistent_workers_see_the_next_epoch(tree):
    context = SampleContext()
    dataset = make(tree, DrawAll(), context=context)
    loader = DataLoader(dataset, batch_size=4, num_workers=2, persistent_workers=True)
    for epoch in (0, 1):
        context.epoch = epoch
        values = torch.cat([images for images, _ in loader])
        assert torch.equal(values, torch.stack([dataset[row][0] for row in range(12)]))


def test_generators_are_left_as_they_were(tree):
    dataset = make(tree, DrawAll())

    def outside():
        return torch.rand(1).item(), np.random.rand(), random.random(), np.random.randn()

    def seed():
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)
        np.random.randn()  # leaves a cached second value behind

    seed()
    expected = [outside() for _ in range(3)]
    seed()
    found = []
    for row in range(3):
        found.append(outside())
        dataset[row]
    assert found == expected


def test_generators_are_restored_after_an_error_that_names_the_image(tree):
    def fail(image):
        torch.rand(1)
        raise RuntimeError('crop larger than image')

    dataset = make(tree, fail)
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError) as error:
        dataset[2]
    assert torch.equal(torch.get_rng_state(), state)
    assert dataset.ids[2] in error.value.__notes__[0]


def test_augmented_pixels_are_the_same_in_workers(tree):
    dataset = make(tree, [{'type': 'RandomResizedCrop', 'size': 8}, {'type': 'ColorJitter', 'brightness': 0.5},
                          {'type': 'ToTensor'}])
    expected = draws(dataset, list(range(12)))
    for row, value in draws(dataset, list(range(12))[::-1], workers=2).items():
        assert torch.equal(value, expected[row])


@pytest.mark.parametrize('kind', ['damaged', 'missing', 'truncated'])
def test_another_image_of_the_class_stands_in(breakable, tmp_path, kind):
    root, bucket = breakable
    path = root / bucket.paths[5]
    good = make(breakable)
    if kind == 'missing':
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:200] if kind == 'truncated' else b'no image')
    context = SampleContext(seed=1)
    dataset = make(breakable, context=context, path=tmp_path / 'bad.jsonl')
    others = [row for row in range(12) if row != 5 and bucket.targets[row] == bucket.targets[5]]
    chosen = set()
    for epoch in range(20):
        context.epoch = epoch
        image, target = dataset[5]
        again = make(breakable, context=SampleContext(seed=1, epoch=epoch))[5][0]
        assert target == bucket.targets[5] and torch.equal(image, again)
        matches = [row for row in others if torch.equal(good[row][0], image)]
        assert len(matches) == 1
        chosen.update(matches)
    assert chosen == set(others)
    (line,) = [json.loads(line) for line in (tmp_path / 'bad.jsonl').read_text().splitlines()]
    assert (line['split'], line['bucket'], line['id']) == ('train', '1', bucket.ids[5])
    assert {'missing': 'missing', 'damaged': 'not an image', 'truncated': 'runcated'}[kind] in line['reason']


def test_stand_in_skips_bad_ones_until_none_is_left(breakable):
    _, bucket = breakable
    same = [row for row in range(12) if bucket.targets[row] == 1]
    for row in same[:3]:
        spoil(breakable, row)
    dataset = make(breakable)
    assert all(torch.equal(dataset[row][0], dataset[same[3]][0]) for row in same)
    spoil(breakable, same[3])
    with pytest.raises(DataError, match='no other image of class 1 can stand in'):
        make(breakable)[same[0]]


def test_too_many_bad_images_stop_the_run(breakable, tmp_path):
    for row in (0, 5):
        spoil(breakable, row)
    dataset = make(breakable, path=tmp_path / 'bad.jsonl', limit=0.1)
    dataset[0]
    with pytest.raises(DataError, match=r'2 of 12 train images cannot be read \(16.7%\).*bad.jsonl'):
        dataset[5]


def test_workers_report_each_bad_image_once(breakable, tmp_path):
    for row in (0, 5):
        spoil(breakable, row)
    dataset = make(breakable, path=tmp_path / 'bad.jsonl')
    for _ in range(2):
        batches = list(DataLoader(dataset, batch_size=2, num_workers=2))
    assert sum(len(images) for images, _ in batches) == 12
    names = [json.loads(line)['id'] for line in (tmp_path / 'bad.jsonl').read_text().splitlines()]
    assert sorted(names) == sorted([dataset.ids[0], dataset.ids[5]])


def test_nothing_stands_in_in_evaluation(breakable, tmp_path):
    spoil(breakable, 5)
    dataset = make(breakable, is_train=False, path=tmp_path / 'bad.jsonl')
    with pytest.raises(BadSampleError, match='cannot be read'):
        dataset[5]
    rows = [row for row in range(12) if row != 5]
    assert dataset.readable() == rows
    images, targets, kept = to_tensors(dataset)
    assert kept.tolist() == rows and targets.tolist() == [dataset.targets[row] for row in rows]
    assert images.shape == (11, 3, 8, 8) and images.dtype == torch.float32 and images.is_contiguous()
    assert all(torch.equal(images[i], dataset[row][0]) for i, row in enumerate(rows))
    assert dataset.bad_samples.counts() == {'train': 0, 'test': 1}


def test_tensors_of_a_training_bucket_hold_the_stand_in(breakable):
    spoil(breakable, 5)
    dataset = make(breakable)
    images, targets, kept = to_tensors(dataset)
    assert kept.tolist() == list(range(12)) and targets.tolist() == dataset.targets
    assert all(torch.equal(images[row], dataset[row][0]) for row in range(12))


def test_tensors_that_cannot_be_made(breakable):
    root, bucket = breakable
    with pytest.raises(ConfigError, match='random transform'):
        to_tensors(make(breakable, DrawAll()))
    for transform in ([], [{'type': 'PILToTensor'}]):
        with pytest.raises(ConfigError, match='ToTensor'):
            to_tensors(make(breakable, transform))
    Image.new('RGB', (5, 9)).save(root / bucket.paths[3])
    with pytest.raises(DataError, match=f"'{bucket.ids[3]}' \\(3, 9, 5\\), but the first image \\(3, 12, 12\\)"):
        to_tensors(make(breakable, [{'type': 'ToTensor'}]))
    for row in range(12):
        spoil(breakable, row)
    with pytest.raises(DataError, match='none of its 12 images'):
        to_tensors(make(breakable, is_train=False))


def test_arguments_at_the_door(tree, tmp_path):
    with pytest.raises(ConfigError, match="cache is 'disk'"):
        make(tree, cache='disk')
    root = write_clear_tree(tmp_path, num_buckets=1, features=3, images=False)
    bucket = read_clear(root, feature_type='moco_b0').train[0]
    with pytest.raises(ValueError, match='holds features'):
        make((root, bucket))
