"""The strong augmentation of CLSA: a few random operations of RandAugment's pool, each with a random level."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from clear.core.checks import check_number, check_whole
from clear.registry import TRANSFORMS

# Levels are parts of ten whatever `max_level` is.
LEVEL_UNIT = 10


@dataclass(frozen=True)
class Magnitude:
    """How a level becomes an operation's argument: `level * scale / 10 + offset`.

    Args:
        scale, offset: see above.
        is_integer: the product is truncated before the offset is added.
        has_sign: the argument is negated half of the time.
    """

    scale: float
    offset: float = 0.0
    is_integer: bool = False
    has_sign: bool = False

    def value(self, level: int) -> float:
        """The argument, before its sign."""
        product = float(level) * self.scale / LEVEL_UNIT
        return (int(product) if self.is_integer else product) + self.offset


# In the order of the authors' list, on which the draws depend. None: the operation has no argument.
MAGNITUDES: dict[str, Magnitude | None] = {
    'AutoContrast': None,
    'Brightness': Magnitude(0.9, 0.05),
    'Color': Magnitude(0.9, 0.05),
    'Contrast': Magnitude(0.9, 0.05),
    'Equalize': None,
    'Identity': None,
    'Posterize': Magnitude(4, 4, is_integer=True),
    'Rotate': Magnitude(30, is_integer=True, has_sign=True),
    'Sharpness': Magnitude(0.9, 0.05),
    'ShearX': Magnitude(0.3, has_sign=True),
    'ShearY': Magnitude(0.3, has_sign=True),
    'Solarize': Magnitude(256, is_integer=True),
    'TranslateX': Magnitude(0.3, has_sign=True),
    'TranslateY': Magnitude(0.3, has_sign=True),
}
OPERATIONS = tuple(MAGNITUDES)


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


_APPLY: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    'AutoContrast': lambda image, _: ImageOps.autocontrast(image),
    'Brightness': lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    'Color': lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    'Contrast': lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    'Equalize': lambda image, _: ImageOps.equalize(image),
    'Identity': lambda image, _: image,
    'Posterize': lambda image, bits: ImageOps.posterize(image, int(bits)),
    'Rotate': lambda image, degrees: image.rotate(degrees),
    'Sharpness': lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    'ShearX': lambda image, shear: _affine(image, 1, shear, 0, 0, 1, 0),
    'ShearY': lambda image, shear: _affine(image, 1, 0, 0, shear, 1, 0),
    'Solarize': lambda image, level: ImageOps.solarize(image, 256 - int(level)),
    'TranslateX': lambda image, share: _affine(image, 1, 0, int(share * image.width), 0, 1, 0),
    'TranslateY': lambda image, share: _affine(image, 1, 0, 0, 0, 1, int(share * image.height)),
}


def apply_operation(image: Image.Image, name: str, value: float = 0.0) -> Image.Image:
    """One operation with its signed argument, e.g. `('Rotate', -27)` in degrees or `('TranslateX', 0.15)` of the width.

    Geometric ones take the nearest pixel and leave black what comes from outside.
    """
    return _APPLY[name](image, value)


@TRANSFORMS.register_module()
class CLSAStrongAugment:
    """`num_ops` operations on an RGB PIL image, drawn with replacement from 14 (CLSA, Wang and Qi 2021,
    arXiv:2104.07713).

    Each has a level of its own from 1 ... max_level - 1 and is applied with probability `prob`. Enhancement factors
    stay below 1: colours, contrast and sharpness only fade. The draws are those of the authors' code and in its
    order, from the global generators of `random` and NumPy, which the data sets here seed for every sample.

    Args:
        num_ops: >= 0.
        max_level: 2 ... 11, exclusive.
        prob: in [0, 1].

    Raises:
        ValueError: if an argument is out of range.
        TypeError: from a call, if the image is no RGB PIL image.
    """

    is_random = True

    def __init__(self, num_ops: int = 5, max_level: int = 10, prob: float = 0.5):
        check_strong(num_ops, max_level, prob)
        self.num_ops = num_ops
        self.max_level = max_level
        self.prob = prob

    def __call__(self, image: Image.Image) -> Image.Image:
        if not isinstance(image, Image.Image) or image.mode != 'RGB':
            raise TypeError(f'CLSAStrongAugment: expected an RGB PIL image, found '
                            f'{image.mode if isinstance(image, Image.Image) else type(image).__name__}. '
                            'Put it before ToTensor.')
        for name in random.choices(OPERATIONS, k=self.num_ops):
            level = int(np.random.randint(1, self.max_level))
            if random.random() < self.prob:
                image = apply_operation(image, name, _draw_value(MAGNITUDES[name], level))
        return image

    def __repr__(self) -> str:
        return f'CLSAStrongAugment(num_ops={self.num_ops}, max_level={self.max_level}, prob={self.prob})'


def check_strong(num_ops: int, max_level: int, prob: float) -> None:
    """Raise ValueError if an option of the strong augmentation is out of range."""
    check_whole('num_ops', num_ops, 0)
    # Levels are drawn from 1 to max_level - 1, in parts of ten.
    check_whole('max_level', max_level, 2, LEVEL_UNIT + 1)
    check_number('prob', prob, 0, 1)


def _draw_value(magnitude: Magnitude | None, level: int) -> float:
    if magnitude is None:
        return 0.0
    value = magnitude.value(level)
    return -value if magnitude.has_sign and random.random() < 0.5 else value
