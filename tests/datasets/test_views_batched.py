"""Batched views: every operation against PIL for the same parameters, every distribution against torchvision's."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from clear.core.seeding import seeded_draws
from clear.datasets import SampleContext
from clear.datasets.transforms import BatchedMultiCrop, MultiCrop, View, batched_filters, sample_seeds
from clear.datasets.transforms import batched_views as batched_module
from clear.datasets.transforms.batched_clsa import apply_operations
from clear.datasets.transforms.batched_colour import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    grayscale,
    solarize,
)
from clear.datasets.transforms.batched_draws import Draws, draw_view
from clear.datasets.transforms.batched_filters import crop_resize_by_matrices, crop_resize_each, gaussian_blur
from clear.datasets.transforms.clsa_augment import MAGNITUDES, OPERATIONS, apply_operation

NUM_IMAGES = 12


def pictures(height, width, seed=0):
    """Smooth images with noise, one flat and one of two colours: (B, 3, H, W) uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(NUM_IMAGES, 3, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (height, width), mode='bicubic').clamp(0, 1) * 255
    images = (images + 12 * torch.randn(images.shape, generator=generator)).clamp(0, 255).to(torch.uint8)
    images[0] = 77
    images[1, :, :, ::2] = 250
    images[1, :, :, 1::2] = 3
    return images


def as_pil(image):
    return Image.fromarray(image.to(torch.uint8).permute(1, 2, 0).numpy())


def as_tensor(images):
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]).float()


def compare(found, expected, most, share):
    """Largest difference in levels, and share of equal values."""
    difference = (found - expected).abs()
    assert difference.max() <= most, difference.max()
    assert (difference == 0).float().mean() >= share, (difference == 0).float().mean()


# Every operation, the same parameters

COLOURS = {
    'brightness': (adjust_brightness, TF.adjust_brightness, (0.0, 0.2, 1.0, 1.8)),
    'contrast': (adjust_contrast, TF.adjust_contrast, (0.0, 0.2, 1.0, 1.8)),
    'saturation': (adjust_saturation, TF.adjust_saturation, (0.0, 0.2, 1.0, 1.8)),
    'hue': (adjust_hue, TF.adjust_hue, (-0.5, -0.1, 0.003, 0.4)),
}


@pytest.mark.parametrize('name', COLOURS)
@pytest.mark.parametrize('size', [(9, 16), (1, 1)])
def test_colours_are_those_of_pil(name, size):
    batched, single, strengths = COLOURS[name]
    images = pictures(*size)
    for shift in range(len(strengths)):
        values = [strengths[(index + shift) % len(strengths)] for index in range(NUM_IMAGES)]
        found = batched(images.float(), torch.tensor(values))
        expected = as_tensor([single(as_pil(image), value) for image, value in zip(images, values)])
        # Hue passes through three bytes; where a division falls on a whole number, doubles and floats may differ.
        compare(found, expected, *((6, 0.995) if name == 'hue' else (1, 0.998)))


def test_grey_and_solarize_are_those_of_pil():
    images = pictures(8, 9)
    pil = [as_pil(image) for image in images]
    compare(grayscale(images.float()), as_tensor([image.convert('L').convert('RGB') for image in pil]), 0, 1)
    compare(solarize(images.float(), 128), as_tensor([ImageOps.solarize(image, 128) for image in pil]), 0, 1)


@pytest.mark.parametrize('crop_resize', [crop_resize_each, crop_resize_by_matrices])
@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('height, width, size', [(40, 30, 16), (20, 24, 32), (17, 15, 1), (33, 33, 33)])
def test_crops_are_those_of_pil(crop_resize, interpolation, height, width, size):
    if (crop_resize, size) == (crop_resize_each, 1):
        crop_resize = batched_filters.crop_resize  # which knows that torch cannot do it
    images = pictures(height, width)
    generator = np.random.default_rng(0)
    boxes = []
    for _ in range(NUM_IMAGES):
        part = generator.integers(1, [height + 1, width + 1])
        boxes.append([*generator.integers(0, [height - part[0] + 1, width - part[1] + 1]), *part])
    boxes[2] = [0, 0, height, width]
    flip = torch.arange(NUM_IMAGES) % 2 == 0
    found = crop_resize(images, torch.tensor(np.array(boxes)), flip, size, interpolation)
    in_turn, at_once = [], []
    for image, (top, left, part_height, part_width), mirror in zip(images, boxes, flip):
        part = as_pil(image).crop((left, top, left + part_width, top + part_height))
        kernel = Image.Resampling[interpolation.upper()]
        across = part.resize((size, part_height), kernel)
        for results, resized in ((in_turn, across.resize((size, size), kernel)),
                                 (at_once, part.resize((size, size), kernel))):
            results.append(ImageOps.mirror(resized) if mirror else resized)
    # torch rounds weights to 16 bits, which with the larger ones of the bicubic kernel may make two levels.
    compare(found, as_tensor(in_turn), 2 if (crop_resize, interpolation) == (crop_resize_each, 'bicubic') else 1, 0.98)
    # In one call PIL may resize the height first, and so round in another order.
    compare(found, as_tensor(at_once), 2, 0.9)


@pytest.mark.parametrize('height, width', [(16, 16), (9, 20), (1, 3)])
def test_blur_is_that_of_pil(height, width):
    images = pictures(height, width)
    sigma = torch.linspace(0.1, 3.0, NUM_IMAGES)
    found = gaussian_blur(images.float(), sigma, 3.0)
    expected = as_tensor([as_pil(image).filter(ImageFilter.GaussianBlur(value))
                          for image, value in zip(images, sigma.tolist())])
    # PIL rounds after each of six passes, this once.
    compare(found, expected, 2, 0.7)
    assert abs((found - expected).mean()) < 0.05


@pytest.mark.parametrize('name', OPERATIONS)
@pytest.mark.parametrize('size', [(24, 20), (2, 3)])
def test_strong_operations_are_those_of_pil(name, size):
    images = pictures(*size)
    magnitude = MAGNITUDES[name]
    for sign in (1, -1) if magnitude is not None and magnitude.has_sign else (1,):
        values = [0.0 if magnitude is None else sign * magnitude.value(1 + index % 9) for index in range(NUM_IMAGES)]
        found = apply_operations(images.float(), name, torch.tensor(values))
        expected = as_tensor([apply_operation(as_pil(image), name, value) for image, value in zip(images, values)])
        if name in ('Rotate', 'ShearX', 'ShearY'):
            # A place that falls on the edge of a pixel may be rounded to its neighbour, of any colour.
            compare(found, expected, 255, 0.995)
        else:
            compare(found, expected, 1, 0.995)


# Draws


def test_uniform_numbers_are_uniform_and_unrelated():
    values = Draws(torch.arange(4000), 0).uniform(20)
    assert values.min() >= 0 and values.max() < 1
    assert abs(values.mean() - 0.5) < 5 / np.sqrt(12 * values.size)
    counts = np.histogram(values, 50, (0, 1))[0]
    assert ((counts - values.size / 50) ** 2 / (values.size / 50)).sum() < 49 + 5 * np.sqrt(2 * 49)
    correlation = np.corrcoef(values.T) - np.eye(20)
    assert abs(correlation).max() < 5 / np.sqrt(4000)
    # Neighbouring seeds and streams.
    assert abs(np.corrcoef(values[:-1, 0], values[1:, 0])[0, 1]) < 5 / np.sqrt(4000)
    other = Draws(torch.arange(4000), 1).uniform(20)
    assert abs(np.corrcoef(values[:, 0], other[:, 0])[0, 1]) < 5 / np.sqrt(4000)


def test_draws_belong_to_the_sample_and_not_to_its_batch():
    seeds = torch.tensor([5, -3, 2**62, 0])
    view = View(16, strong_ops=3)
    together = vars(draw_view(view, Draws(seeds, 2), 30, 40))
    for index in range(len(seeds)):
        alone = vars(draw_view(view, Draws(seeds[index:index + 1], 2), 30, 40))
        for name, values in together.items():
            assert np.array_equal(values[index:index + 1], alone[name]), name


def same_mean(found, expected, what, rounding=1e-9):
    """Two samples of one distribution: means and spreads within five standard errors."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    for name, one, other in (('mean', found, expected),
                             ('spread', (found - found.mean()) ** 2, (expected - expected.mean()) ** 2)):
        error = np.sqrt(one.var() / len(one) + other.var() / len(other))
        assert abs(one.mean() - other.mean()) <= 5 * error + rounding, (what, name, one.mean(), other.mean())


@pytest.mark.parametrize('height, width, scale', [(64, 64, (0.2, 1.0)), (20, 90, (0.5, 1.0))])
def test_boxes_are_distributed_as_those_of_torchvision(height, width, scale):
    """In the wide image many boxes do not fit, so the order of tries and the way out matter."""
    count = 1000
    boxes = draw_view(View(32, scale=scale), Draws(torch.arange(count), 0), height, width).boxes
    with seeded_draws(0):
        crop = v2.RandomResizedCrop(32, scale=scale)
        image = torch.empty(3, height, width)
        expected = [crop.make_params([image]) for _ in range(count)]
    for index, name in enumerate(('top', 'left', 'height', 'width')):
        same_mean(boxes[:, index], [params[name] for params in expected], name)
    same_mean(boxes[:, 2] * boxes[:, 3], [params['height'] * params['width'] for params in expected], 'area')


def test_colour_parameters_are_distributed_as_those_of_torchvision():
    count = 1000
    view = View(32, jitter=(0.4, 1.5, 0.2, 0.1), jitter_prob=1.0)
    drawn = draw_view(view, Draws(torch.arange(count), 0), 64, 64)
    with seeded_draws(0):
        jitter = v2.ColorJitter(0.4, 1.5, 0.2, 0.1)
        expected = [jitter.make_params([]) for _ in range(count)]
    for index, name in enumerate(('brightness', 'contrast', 'saturation', 'hue')):
        same_mean(drawn.factors[:, index], [params[f'{name}_factor'] for params in expected], name)
    orders = drawn.jitter_order @ [64, 16, 4, 1]
    assert len(np.unique(orders)) == 24
    assert np.unique(orders, return_counts=True)[1].min() > count / 24 - 5 * np.sqrt(count / 24)


@pytest.mark.parametrize('name, probability', [('flip', 0.5), ('grey', 0.2), ('solarize', 0.3), ('sigma', 0.6),
                                               ('jitter_order', 0.8)])
def test_probabilities(name, probability):
    view = View(32, solarize_prob=0.3, blur_prob=0.6)
    values = getattr(draw_view(view, Draws(torch.arange(5000), 0), 64, 64), name)
    happens = values[:, 0] >= 0 if name == 'jitter_order' else values > 0
    assert abs(happens.mean() - probability) < 5 * np.sqrt(probability * (1 - probability) / 5000)
    if name == 'sigma':
        same_mean(values[happens], np.random.default_rng(0).uniform(0.1, 2.0, 5000), 'sigma')


def test_strong_operations_are_drawn_as_the_policy_says():
    count = 4000
    drawn = draw_view(View(32, strong_ops=5), Draws(torch.arange(count), 0), 64, 64)
    assert drawn.operations.shape == (count, 5)
    total = count * 5
    assert abs((drawn.operations < 0).mean() - 0.5) < 5 * np.sqrt(0.25 / total)
    for index, name in enumerate(OPERATIONS):
        chosen = drawn.operations == index
        expected = 0.5 / len(OPERATIONS)
        assert abs(chosen.mean() - expected) < 5 * np.sqrt(expected / total), name
        values, magnitude = drawn.values[chosen], MAGNITUDES[name]
        levels = {0.0} if magnitude is None else {magnitude.value(level) for level in range(1, 10)}
        signs = (1, -1) if magnitude is not None and magnitude.has_sign else (1,)
        assert set(values.tolist()) == {sign * value for sign in signs for value in levels}, name


# Whole views

VIEWS = {
    'crop': dict(jitter_prob=0.0, grayscale_prob=0.0, blur_prob=0.0, flip_prob=0.0),
    'flip': dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), jitter_prob=0.0, grayscale_prob=0.0, blur_prob=0.0),
    'jitter': dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), grayscale_prob=0.0, blur_prob=0.0),
    'blur': dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), jitter_prob=0.0, grayscale_prob=0.0, blur_prob=1.0),
    'grey': dict(jitter_prob=0.0, grayscale_prob=0.5, blur_prob=0.0),
    'moco_v1': dict(jitter=(0.4, 0.4, 0.4, 0.4), jitter_prob=1.0, grayscale_first=True, blur_prob=0.0),
    'moco_v2': {},
    'byol': dict(scale=(0.08, 1.0), interpolation='bicubic', jitter=(0.4, 0.4, 0.2, 0.1), solarize_prob=0.5),
    'strong': dict(strong_ops=5),
}


def statistics(views):
    """Per view: means of the channels, spread, left against right, differences between neighbours, colourfulness."""
    flat = views.flatten(2)
    half = views.shape[3] // 2
    return dict(red=flat[:, 0].mean(1), green=flat[:, 1].mean(1), blue=flat[:, 2].mean(1), spread=flat.std((1, 2)),
                side=views[..., :half].mean((1, 2, 3)) - views[..., half:].mean((1, 2, 3)),
                edges=(views[..., 1:] - views[..., :-1]).abs().mean((1, 2, 3)),
                colour=(views.amax(1) - views.amin(1)).mean((1, 2)))


@pytest.mark.parametrize('count', [150, pytest.param(1500, marks=pytest.mark.slow)])
@pytest.mark.parametrize('name', VIEWS)
def test_views_have_the_moments_of_the_single_form(name, count):
    image = pictures(24, 24)[5]
    recipe, flat = [dict(size=12, **VIEWS[name])], dict(mean=(0, 0, 0), std=(1 / 255,) * 3)
    found = BatchedMultiCrop(recipe, **flat)(image.expand(count, -1, -1, -1), torch.arange(count))[0]
    single = MultiCrop(recipe, **flat)
    with seeded_draws(1):
        expected = torch.stack([single(as_pil(image))[0] for _ in range(count)])
    for what, values in statistics(found).items():
        # Levels of 255: PIL rounds in between, and some of these numbers do not vary at all.
        same_mean(values, statistics(expected)[what], what, rounding=0.05)


def test_a_view_is_the_same_in_any_batch_and_any_chunk(monkeypatch):
    images, seeds = pictures(20, 20), torch.arange(NUM_IMAGES) * 7
    views = BatchedMultiCrop('clsa', dict(size_crops=[16, 8], key_size=16))
    whole = views(images, seeds)
    assert [view.shape for view in whole] == [(NUM_IMAGES, 3, size, size) for size in (16, 16, 8)]
    assert all(torch.equal(one, other) for one, other in zip(whole, views(images, seeds)))
    monkeypatch.setattr(batched_module, '_CHUNK_VALUES', 5 * images[0].numel())
    backwards = views(images.flip(0), seeds.flip(0))
    for one, other in zip(whole, backwards):
        # A product may sum in another order in another batch, and so round the other way.
        same = (one - other.flip(0)).abs() < 1e-6
        assert same.float().mean() > 0.999


def test_seeds_follow_the_context():
    context = SampleContext(seed=3)
    first = sample_seeds(context, ['a', 'b'])
    assert first.dtype == torch.int64 and first.tolist() == [context.seed_of('augment', name) for name in 'ab']
    context.epoch = 1
    assert not set(sample_seeds(context, ['a', 'b']).tolist()) & set(first.tolist())


def test_normalised_as_asked():
    images = torch.full((2, 3, 8, 8), 51, dtype=torch.uint8)
    plain = dict(size=4, jitter_prob=0.0, grayscale_prob=0.0, blur_prob=0.0)
    found = BatchedMultiCrop([plain], mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.1))(images, torch.arange(2))[0]
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([0.2, 0.0, -1.0]))


def test_an_empty_batch_is_one():
    found = BatchedMultiCrop('moco_v2', dict(size=4))(torch.zeros(0, 3, 8, 8, dtype=torch.uint8),
                                                      torch.zeros(0, dtype=torch.int64))
    assert [view.shape for view in found] == [(0, 3, 4, 4)] * 2


@pytest.mark.parametrize('images, seeds, error, message', [
    (torch.zeros(2, 3, 8, 8), torch.arange(2), TypeError, r'of uint8, found torch.float32 \(2, 3, 8, 8\)'),
    (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.arange(2), TypeError, r'found torch.uint8 \(2, 8, 8, 3\)'),
    (Image.new('RGB', (8, 8)), torch.arange(2), TypeError, 'found Image. One PIL image is for MultiCrop'),
    (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.arange(3), ValueError, r'seeds \(2,\) of int64'),
    (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2), ValueError, 'found torch.float32'),
])
def test_wrong_batches_are_refused(images, seeds, error, message):
    with pytest.raises(error, match=message):
        BatchedMultiCrop('moco_v2', dict(size=4))(images, seeds)
