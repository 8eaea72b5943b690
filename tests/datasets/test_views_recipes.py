"""Recipes of views as tables, and the single form of `MultiCrop` against torchvision's transforms written out."""

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms import v2

from clear.core.errors import ConfigError
from clear.core.seeding import seeded_draws
from clear.datasets import Bucket, BucketDataset, ImageTable, SampleContext
from clear.datasets.transforms import RECIPES, MultiCrop, View, build_transform, build_views
from clear.datasets.transforms.multi_crop import PILGaussianBlur

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = {'moco_v1': [224] * 2, 'moco_v2': [224] * 2, 'simclr': [224] * 2, 'byol': [224] * 2,
         'swav': [224] * 2 + [96] * 6, 'dino': [224] * 2 + [96] * 8, 'clsa': [224, 224, 96],
         'clsa_multi': [224] + [224, 192, 160, 128, 96] * 2}


def test_every_recipe_has_its_sizes():
    assert set(SIZES) == set(RECIPES)
    for name, sizes in SIZES.items():
        assert [view.size for view in build_views(name)] == sizes, name


def test_what_recipes_say():
    v1, v2_, simclr = (build_views(name)[0] for name in ('moco_v1', 'moco_v2', 'simclr'))
    assert v1.grayscale_first and v1.jitter == (0.4,) * 4 and v1.jitter_prob == 1 and v1.blur_prob == 0
    assert v2_ == View(224) and v2_.scale == (0.2, 1.0) and v2_.jitter == (0.4, 0.4, 0.4, 0.1)
    assert simclr.scale == (0.08, 1.0) and simclr.jitter == (0.8, 0.8, 0.8, 0.2)
    one, other = build_views('byol')
    assert (one.blur_prob, one.solarize_prob, other.blur_prob, other.solarize_prob) == (1.0, 0.0, 0.1, 0.2)
    assert [view.scale for view in build_views('swav')[1:3]] == [(0.14, 1.0), (0.05, 0.14)]
    assert [view.scale for view in build_views('dino')[1:3]] == [(0.4, 1.0), (0.05, 0.4)]
    key, weak, strong = build_views('clsa')
    assert key == weak == View(224) and strong == View(96, scale=(0.086, 0.429), strong_ops=5)
    multi = build_views('clsa_multi')
    assert [view.strong_ops for view in multi] == [0] * 6 + [5] * 5
    assert [view.scale for view in multi[1:6]] == [(0.2, 1.0), (0.172, 0.86), (0.143, 0.715), (0.114, 0.571),
                                                   (0.086, 0.429)]


def test_options_and_changes():
    views = build_views('swav', dict(size_crops=[32, 16], num_crops=[1, 2]), dict(blur_prob=0.0))
    assert [(view.size, view.blur_prob) for view in views] == [(32, 0.0), (16, 0.0), (16, 0.0)]
    own = build_views([dict(size=8, count=2), View(4)])
    assert [view.size for view in own] == [8, 8, 4]
    picked = build_views('clsa', dict(size_crops=[32, 16], num_crops=[1, 2], pick_weak=None, pick_strong=[2, 0]))
    assert [(view.size, view.strong_ops) for view in picked] == [(224, 0), (32, 0), (16, 0), (16, 0), (32, 5), (16, 5)]


@pytest.mark.parametrize('name', ['moco_v1', 'moco_v2', 'byol', 'clsa'])
def test_single_form_is_torchvision_written_out(name):
    options = dict(size_crops=[24, 16], key_size=24) if name == 'clsa' else dict(size=24)
    transform = MultiCrop(name, options)

    def blur(image):
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))

    def crop(size, scale, mode=v2.InterpolationMode.BILINEAR):
        return v2.RandomResizedCrop(size, scale=scale, interpolation=mode)

    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    weak = [v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8), v2.RandomGrayscale(0.2),
            v2.RandomApply([blur], p=0.5), v2.RandomHorizontalFlip()]
    soft = v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8)
    cubic = v2.InterpolationMode.BICUBIC
    lists = {
        'moco_v1': [[crop(24, (0.2, 1)), v2.RandomGrayscale(0.2), v2.ColorJitter(0.4, 0.4, 0.4, 0.4),
                     v2.RandomHorizontalFlip(), *last]] * 2,
        'moco_v2': [[crop(24, (0.2, 1)), *weak, *last]] * 2,
        'byol': [[crop(24, (0.08, 1), cubic), soft, v2.RandomGrayscale(0.2), blur, v2.RandomHorizontalFlip(), *last],
                 [crop(24, (0.08, 1), cubic), soft, v2.RandomGrayscale(0.2), v2.RandomApply([blur], p=0.1),
                  v2.RandomSolarize(128, 0.2), v2.RandomHorizontalFlip(), *last]],
        'clsa': [[crop(24, (0.2, 1)), *weak, *last]] * 2 + [
            [crop(16, (0.086, 0.429)), *weak, build_transform([dict(type='CLSAStrongAugment')]).steps[0], *last]],
    }
    for seed in range(10):
        with seeded_draws(seed):
            found = transform(IMAGE)
        with seeded_draws(seed):
            for view, steps in zip(found, lists[name], strict=True):
                expected = IMAGE
                for step in steps:
                    expected = step(expected)
                assert type(view) is torch.Tensor and torch.equal(view, expected)


def test_views_of_one_image_differ():
    one, other = MultiCrop('moco_v2', dict(size=16))(IMAGE)
    assert one.shape == (3, 16, 16) and not torch.equal(one, other)


def test_a_data_set_draws_by_seed_epoch_and_sample(tmp_path):
    for name in ('a', 'b'):
        IMAGE.save(tmp_path / f'{name}.png')
    columns = dict(id=['a', 'b'], path=['a.png', 'b.png'], label=[0, 0])
    bucket = Bucket('1', ImageTable.from_columns(tmp_path, columns, ['all']))
    context = SampleContext(seed=1)
    data = BucketDataset(tmp_path, bucket, build_transform([dict(type='MultiCrop', options=dict(size=16))]),
                        is_train=True, context=context)
    first = data[0][0]
    torch.rand(3)
    assert all(torch.equal(one, other) for one, other in zip(first, data[0][0]))
    assert not torch.equal(first[0], data[1][0][0])
    context.epoch = 1
    assert not torch.equal(first[0], data[0][0][0])


@pytest.mark.parametrize('arguments, message', [
    (('moco_v3',), "recipe 'moco_v3' is unknown; known: moco_v1, moco_v2"),
    (('moco_v2', dict(sise=32)), "recipe 'moco_v2' has no 'sise'; it takes: size. Nearest: 'size'"),
    (('moco_v2', {}, dict(blur=0)), "changes has no 'blur'.* Nearest: 'blur_"),
    (('swav', dict(size_crops=[32, 16, 8])), 'differ in length: size_crops 3, num_crops 2'),
    (('clsa', dict(pick_weak=[2])), r'pick_weak is \[2\]; expected indices from 0 to 1'),
    (('clsa', dict(pick_strong=[])), r'pick_strong is \[\]; expected .* at least one'),
    (([dict(count=2)],), r'recipe\[0\]: expected a dict with the size'), (([],), 'recipe has no views'),
    (([dict(size=8)], dict(size=4)), 'options belong to a named recipe'),
    (('moco_v2', dict(size=0)), 'size is 0'), (('moco_v2', {}, dict(blur_prob=2)), 'blur_prob is 2'),
    (('moco_v2', {}, dict(scale=(0.5, 0.2))), r'scale is \(0.5, 0.2\), expected \(low, high\)'),
    (('moco_v2', {}, dict(scale=(0.5, 2.0))), 'high <= 1.0'),
    (('moco_v2', {}, dict(jitter=(0, 0, 0, 0.6))), 'the last at most 0.5'),
    (('moco_v2', {}, dict(interpolation='nearest')), "interpolation is 'nearest'"),
    (('moco_v2', {}, dict(strong_ops=-1)), 'strong operations: num_ops is -1'),
])
def test_wrong_recipes_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_views(*arguments)


def test_wrong_arguments_of_the_transforms_are_named():
    with pytest.raises(ConfigError, match='expected three numbers each'):
        MultiCrop(mean=(0.5,))
    with pytest.raises(ConfigError, match=r'train\[0\] \(MultiCrop\): recipe .moco_v3. is unknown'):
        build_transform([dict(type='MultiCrop', recipe='moco_v3')], where='train')
    with pytest.raises(ValueError, match='sigma is'):
        PILGaussianBlur((2.0, 1.0))
