"""Photographs of a stream that changes: crops of the sample images of scikit-image and scikit-learn."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clear.datasets.make.demo_scenes.photographs import photograph

if TYPE_CHECKING:
    from PIL.Image import Image

EDGE = 96
_QUALITY = 88
# Subject -> its file, the part of it that shows the subject (left, top, right, bottom; shares of width and height),
# and how often it is taken at the beginning and at the end of the stream.
SUBJECTS = {
    'cat': ('chelsea.png', (0.1, 0.0, 0.9, 1.0), 1.0, 2.0),
    'coffee': ('coffee.png', (0.1, 0.1, 0.95, 0.95), 1.0, 1.5),
    'flower': ('flower.jpg', (0.25, 0.05, 0.95, 0.95), 1.5, 1.0),
    'temple': ('china.jpg', (0.0, 0.1, 1.0, 1.0), 1.5, 1.0),
    'rocket': ('rocket.jpg', (0.25, 0.0, 0.75, 0.95), 1.5, 1.0),
    'motorcycle': ('motorcycle_left.png', (0.1, 0.1, 0.9, 0.95), 1.0, 1.5),
    'coins': ('coins.png', (0.0, 0.0, 1.0, 1.0), 1.0, 1.0),
    'astronaut': ('astronaut.png', (0.2, 0.0, 0.8, 0.8), 1.0, 1.0),
    'brick': ('brick.png', (0.0, 0.0, 1.0, 1.0), 0.7, 0.7),
    'grass': ('grass.png', (0.0, 0.0, 1.0, 1.0), 0.7, 0.7),
    'moon': ('moon.png', (0.0, 0.0, 1.0, 1.0), 0.7, 0.4),
    'page': ('page.png', (0.0, 0.0, 1.0, 1.0), 0.4, 0.7)}


def subject_at(share: float, rng: random.Random) -> str:
    """What is photographed at a moment of the stream, 0 ... 1: the mix changes evenly."""
    weights = [first + (last - first) * share for _, _, first, last in SUBJECTS.values()]
    return rng.choices(list(SUBJECTS), weights)[0]


def photo_at(subject: str, share: float, rng: random.Random, edge: int = EDGE) -> bytes:
    """A JPEG of a subject as cameras make it at a moment, 0 ... 1: early ones are warm, soft and dim.

    Two of three are upright or lying, 4 : 3; the others square. The shorter side has `edge` pixels.
    """
    from PIL import ImageEnhance, ImageFilter

    image = _crop(_source(subject), SUBJECTS[subject][1], rng, rng.choice([(1, 1), (4, 3), (3, 4)]), edge)
    image = image.filter(ImageFilter.GaussianBlur(1.2 * (1 - share) * rng.uniform(0.5, 1.0)))
    image = ImageEnhance.Brightness(image).enhance(0.75 + 0.35 * share + rng.uniform(-0.08, 0.08))
    image = ImageEnhance.Color(image).enhance(0.6 + 0.7 * share)
    warm = 1.2 - 0.25 * share
    red, green, blue = image.split()
    image.paste(_merged(red.point(lambda value: min(255, round(value * warm))), green,
                        blue.point(lambda value: round(value / warm))))
    written = io.BytesIO()
    image.save(written, 'JPEG', quality=_QUALITY)
    return written.getvalue()


def _crop(image: Image, area: Sequence[float], rng: random.Random, shape: tuple[int, int], edge: int) -> Image:
    """A random part of an area, mirrored half of the time."""
    from PIL import Image as images

    left, top, right, bottom = (round(part * size) for part, size in zip(area, (*image.size, *image.size)))
    unit = min((right - left) / shape[0], (bottom - top) / shape[1]) * rng.uniform(0.55, 1.0)
    width, height = int(unit * shape[0]), int(unit * shape[1])
    x, y = rng.randint(left, right - width), rng.randint(top, bottom - height)
    scale = edge / min(shape)
    found = image.resize((round(scale * shape[0]), round(scale * shape[1])), images.Resampling.BICUBIC,
                         (x, y, x + width, y + height), reducing_gap=2.0)
    return found.transpose(images.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else found


def _merged(*bands: Image) -> Image:
    from PIL import Image as images

    return images.merge('RGB', bands)


def _source(subject: str) -> Image:
    return photograph(SUBJECTS[subject][0])
