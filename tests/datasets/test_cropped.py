"""Crops and flips of many images at once have the pixels of one image at a time."""

import pytest
import torch
from clear_trees import write_clear_tree

from clear.datasets import SampleContext, read_clear
from clear.datasets.loaders.cropped import CroppedImages
from clear.datasets.transforms import build_transform

END = [dict(type='ToTensor'), dict(type='Normalize', mean=[0.5], std=[0.25])]
FLIP = dict(type='RandomHorizontalFlip')


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('tree'), num_buckets=1, per_class=9)


def images(tree, steps, cache='ram', end=END):
    data = read_clear(tree, evaluation_protocol='iid', seed=0)
    return CroppedImages(tree, data.train[0], build_transform([*steps, *end]), is_train=True,
                         context=SampleContext(3, 1, 2), cache=cache)


@pytest.mark.parametrize('steps', [
    [dict(type='RandomCrop', size=16, padding=2), FLIP],
    [dict(type='Grayscale'), dict(type='RandomCrop', size=11), dict(type='RandomHorizontalFlip', p=0.9)],
    [dict(type='Resize', size=12), dict(type='RandomVerticalFlip'), FLIP,
     dict(type='RandomCrop', size=[30, 9], padding=[1, 3], pad_if_needed=True), dict(type='RandomCrop', size=8), FLIP]])
def test_pixels_are_those_of_single_images(steps, tree):
    dataset = images(tree, steps)
    state = torch.get_rng_state()
    rows = torch.tensor([5, 0, 0, 11])
    for epoch in range(3):
        dataset.context.epoch = epoch
        many = dataset.finish(dataset.pixels[rows], [dataset.ids[row] for row in rows])
        assert many.is_contiguous() and type(many) is torch.Tensor
        torch.testing.assert_close(many, torch.stack([dataset[row][0] for row in rows.tolist()]), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(('steps', 'options'), [
    ([dict(type='RandomCrop', size=8)], dict(cache=None)), ([FLIP], dict(end=[])),
    ([dict(type='CenterCrop', size=8)], {}), ([FLIP, dict(type='Resize', size=8)], {}),
    ([dict(type='ColorJitter', brightness=0.1)], {}), ([dict(type='RandomCrop', size=8, padding=1, fill=7)], {}),
    ([dict(type='RandomCrop', size=8, padding=1, padding_mode='reflect')], {}),
    ([dict(type='ToImage'), FLIP], {}), ([dict(type='PILToTensor'), FLIP], {}),
    ([dict(type='RandomResizedCrop', size=8)], {}), ([dict(type='Resize', size=200), FLIP], {})])
def test_other_transforms_and_large_images_are_read_one_by_one(steps, options, tree):
    assert images(tree, steps, **options).pixels is None


def test_a_bucket_with_an_image_that_cannot_be_read_is_read_one_by_one(tmp_path):
    root = write_clear_tree(tmp_path, num_buckets=1, per_class=9)
    dataset = images(root, [FLIP])
    (root / dataset.paths[4]).write_bytes(b'no image')
    assert dataset.pixels is None
    assert dataset[4][0].shape == (3, 16, 16)  # another one stands in
