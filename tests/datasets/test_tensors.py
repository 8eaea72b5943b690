"""A bucket as tensors: equal to its samples one by one, with and without threads, bad images in order."""

import json
import threading
import warnings

import numpy as np
import pytest
import torch
from clear_trees import write_clear_tree
from PIL import Image

from clear.core.errors import DataError
from clear.datasets.images.bad_samples import BadSamples
from clear.datasets.images.decode import decode_image
from clear.datasets.loaders import tensors
from clear.datasets.loaders.buckets import BucketDataset, SampleContext
from clear.datasets.loaders.tensors import to_tensors
from clear.datasets.readers.clear.clear import read_clear
from clear.datasets.transforms import build_transform

NORMALIZE = dict(type='Normalize', mean=[0.3, 0.4, 0.5], std=[0.2, 0.3, 0.7])
TRANSFORMS = {
    'resized': [dict(type='Resize', size=[9, 7]), dict(type='ToTensor'), NORMALIZE],
    'grey': [dict(type='Grayscale'), dict(type='ToTensor'), dict(type='Normalize', mean=[0.5], std=[0.3])],
    'value by value is not enough': [dict(type='ToTensor'), NORMALIZE, dict(type='CenterCrop', size=5)],
    'tensor by another name': [dict(type='PILToTensor'), dict(type='ToDtype', dtype='float32', scale=True)],
}


@pytest.fixture(params=[24, 150], ids=['small', 'large'])
def tree(request, tmp_path):
    root = write_clear_tree(tmp_path / 'tree', num_buckets=1, per_class=6, image_size=request.param)
    return root, read_clear(root, evaluation_protocol='streaming', seed=None).train[0]


def make(tree, transform, *, is_train=True, path=None, decoder='pil', limit=1.0):
    root, bucket = tree
    bad = BadSamples(path, {'train': len(bucket), 'test': len(bucket)}, max_bad_fraction=limit)
    return BucketDataset(root, bucket, build_transform(transform), is_train=is_train, context=SampleContext(),
                        bad_samples=bad, decoder=decoder)


def spoil(tree, *rows):
    for row in rows:
        (tree[0] / tree[1].paths[row]).write_bytes(b'no image')


@pytest.mark.parametrize('threads', [1, 3])
@pytest.mark.parametrize('name', TRANSFORMS)
def test_equal_to_the_samples_one_by_one(tree, monkeypatch, name, threads):
    monkeypatch.setattr(tensors, '_BATCH', 4)
    monkeypatch.setattr(tensors, '_PER_THREAD', 2)
    dataset = make(tree, TRANSFORMS[name])
    images, targets, rows = to_tensors(dataset, threads)
    assert rows.tolist() == list(range(len(dataset))) and targets.tolist() == dataset.targets
    assert torch.equal(images, torch.stack([dataset[row][0] for row in rows.tolist()])) and images.is_contiguous()


@pytest.mark.parametrize('threads', [1, 3])
@pytest.mark.parametrize('is_train', [True, False])
def test_bad_images_are_reported_in_order_of_rows(tree, tmp_path, monkeypatch, threads, is_train):
    monkeypatch.setattr(tensors, '_BATCH', 5)
    spoil(tree, 14, 3, 0, 9)
    dataset = make(tree, TRANSFORMS['resized'], is_train=is_train, path=tmp_path / f'{threads}.jsonl')
    images, _, rows = to_tensors(dataset, threads)
    kept = [row for row in range(len(dataset)) if is_train or row not in (0, 3, 9, 14)]
    assert rows.tolist() == kept
    listed = [json.loads(line)['id'] for line in (tmp_path / f'{threads}.jsonl').read_text().splitlines()]
    assert listed == [dataset.ids[row] for row in (0, 3, 9, 14)]
    again = make(tree, TRANSFORMS['resized'], is_train=is_train)
    assert torch.equal(images, torch.stack([again[row][0] for row in kept]))


def test_too_many_bad_images_stop_threads_too(tree):
    spoil(tree, 3, 4, 5)
    with pytest.raises(DataError, match=r'2 of \d+ train images cannot be read'):
        to_tensors(make(tree, TRANSFORMS['resized'], limit=1.5 / len(tree[1])), 3)


def test_only_large_images_are_read_by_other_threads(tree, monkeypatch):
    used = set()
    read = BucketDataset.read
    monkeypatch.setattr(BucketDataset, 'read', lambda self, row: used.add(threading.get_ident()) or read(self, row))
    to_tensors(make(tree, TRANSFORMS['resized']), 3)
    is_large = Image.open(tree[0] / tree[1].paths[0]).width > 128
    assert (used - {threading.get_ident()} != set()) == is_large


def test_errors_of_the_batched_part_name_an_image(tree):
    dataset = make(tree, [dict(type='ToTensor'), dict(type='Normalize', mean=[0.5, 0.5], std=[1.0, 1.0])])
    with pytest.raises(RuntimeError) as caught:
        to_tensors(dataset)
    assert dataset.ids[0] in caught.value.__notes__[0]


def test_warnings_are_as_before_whatever_the_order_of_threads(tmp_path):
    Image.fromarray(np.zeros((400, 400, 3), np.uint8)).save(tmp_path / 'a.png')
    filters = list(warnings.filters)
    workers = [threading.Thread(target=lambda: [decode_image(tmp_path / 'a.png') for _ in range(15)]) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert warnings.filters == filters
