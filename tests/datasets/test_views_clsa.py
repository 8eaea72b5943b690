"""The strong augmentation of CLSA: its table by hand, its operations by NumPy, its draws by replaying them."""

import random

import numpy as np
import pytest
from PIL import Image

from clear.core.seeding import seeded_draws
from clear.datasets.transforms import CLSAStrongAugment, build_transform
from clear.datasets.transforms.clsa_augment import MAGNITUDES, OPERATIONS, apply_operation

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)

# Values at level 1 and at level 9.
RANGES = {'Brightness': (0.14, 0.86), 'Color': (0.14, 0.86), 'Contrast': (0.14, 0.86), 'Sharpness': (0.14, 0.86),
          'Posterize': (4, 7), 'Rotate': (3, 27), 'ShearX': (0.03, 0.27), 'ShearY': (0.03, 0.27), 'Solarize': (25, 230),
          'TranslateX': (0.03, 0.27), 'TranslateY': (0.03, 0.27)}
SIGNED = {'Rotate', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY'}


def test_the_table():
    assert len(OPERATIONS) == 14
    assert {name for name, magnitude in MAGNITUDES.items() if magnitude is None} == {'AutoContrast', 'Equalize',
                                                                                     'Identity'}
    assert {name for name, magnitude in MAGNITUDES.items() if magnitude is not None and magnitude.has_sign} == SIGNED
    for name, ends in RANGES.items():
        assert (MAGNITUDES[name].value(1), MAGNITUDES[name].value(9)) == pytest.approx(ends), name
    assert [MAGNITUDES['Posterize'].value(level) for level in range(1, 10)] == [4, 4, 5, 5, 6, 6, 6, 7, 7]


def changed(name, value):
    return np.asarray(apply_operation(IMAGE, name, value)).astype(int)


def test_operations_on_single_values():
    assert (changed('Identity', 0) == PIXELS).all()
    assert (changed('Brightness', 0.5) == PIXELS // 2).all()
    assert (changed('Posterize', 4) == PIXELS // 16 * 16).all()
    # Level 9 takes away 230 of 256: all from 26 on is inverted.
    assert (changed('Solarize', 230) == np.where(PIXELS < 26, PIXELS, 255 - PIXELS)).all()
    grey = (PIXELS @ [0.299, 0.587, 0.114] + 0.5).astype(int)[..., None]
    assert abs(changed('Color', 0.25) - (grey + 0.25 * (PIXELS - grey))).max() <= 1
    assert abs(changed('Contrast', 0.25) - (grey.mean() + 0.25 * (PIXELS - grey.mean()))).max() <= 1.5


def test_operations_that_move():
    right = changed('TranslateX', 0.15)  # int(0.15 * 30) = 4 pixels: the output looks 4 to the right
    assert (right[:, :-4] == PIXELS[:, 4:]).all() and not right[:, -4:].any()
    down = changed('TranslateY', -0.27)  # int(-5.4) = -5
    assert (down[5:] == PIXELS[:-5]).all() and not down[:5].any()
    sheared = changed('ShearX', 0.21)
    for row in range(20):
        by = int(np.floor(0.5 + 0.21 * (row + 0.5)))  # from the middle of a pixel
        assert (sheared[row, :30 - by] == PIXELS[row, by:]).all() and not sheared[row, 30 - by:].any()
    turned = changed('Rotate', 27)
    assert turned.shape == PIXELS.shape and not turned[0, 0].any()
    angle = np.deg2rad(27)
    for y, x in ((10, 15), (3, 20), (14, 9)):
        # Counter-clockwise about the middle, with y downwards: where the pixel came from.
        across, down = x + 0.5 - 15, y + 0.5 - 10
        column = 15 + np.cos(angle) * across - np.sin(angle) * down
        row = 10 + np.sin(angle) * across + np.cos(angle) * down
        assert (turned[y, x] == PIXELS[int(row), int(column)]).all()


def test_contrast_that_is_stretched():
    pixels = (PIXELS // 4 + 60).astype(np.uint8)
    image = Image.fromarray(pixels)
    stretched = np.asarray(apply_operation(image, 'AutoContrast'))
    assert stretched.min() == 0 and stretched.max() >= 254
    dark = (PIXELS.astype(int) ** 2 // 255).astype(np.uint8)  # half of the values below 64
    dark = np.tile(dark, (10, 10, 1))  # enough pixels for every level of the result
    levels = np.asarray(apply_operation(Image.fromarray(dark), 'Equalize'))
    assert np.histogram(dark, 4, (0, 256))[0].max() > 0.45 * dark.size
    assert np.histogram(levels, 4, (0, 256))[0] == pytest.approx(levels.size / 4, rel=0.15)


@pytest.mark.parametrize('num_ops, max_level, prob', [(5, 10, 0.5), (1, 2, 1.0), (3, 11, 0.2)])
def test_draws_follow_one_after_the_other(num_ops, max_level, prob):
    transform = CLSAStrongAugment(num_ops, max_level, prob)
    for seed in range(5):
        with seeded_draws(seed):
            found = transform(IMAGE)
        with seeded_draws(seed):
            expected = IMAGE
            for name in random.choices(OPERATIONS, k=num_ops):
                level = np.random.randint(1, max_level)
                if random.random() >= prob:
                    continue
                value = MAGNITUDES[name].value(level) if MAGNITUDES[name] else 0
                if name in SIGNED and random.random() < 0.5:
                    value = -value
                expected = apply_operation(expected, name, value)
        assert (np.asarray(found) == np.asarray(expected)).all()


def test_nothing_happens_without_operations():
    assert CLSAStrongAugment(num_ops=0)(IMAGE) is IMAGE
    assert CLSAStrongAugment(prob=0.0)(IMAGE) is IMAGE


def test_from_a_config():
    transform = build_transform([{'type': 'CLSAStrongAugment', 'num_ops': 2}])
    assert transform.is_random and transform.steps[0].num_ops == 2


@pytest.mark.parametrize('arguments, message', [
    (dict(num_ops=-1), 'num_ops is -1'), (dict(max_level=12), 'max_level is 12'),
    (dict(max_level=1), 'max_level is 1; expected a whole number of at least 2, at most 11'),
    (dict(prob=1.5), 'prob is 1.5; expected a number of at least 0, at most 1')])
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CLSAStrongAugment(**arguments)


@pytest.mark.parametrize('image, found', [(IMAGE.convert('L'), 'found L'), (PIXELS, 'found ndarray')])
def test_only_rgb_images(image, found):
    with pytest.raises(TypeError, match=found):
        CLSAStrongAugment()(image)
