"""Photographs that come with scikit-image and scikit-learn, whole and as tiles to cover surfaces with."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clear.core.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

# Tile -> file, and the part of it that is used (left, top, right, bottom; shares of width and height).
TILES = {
    'brick': ('brick.png', (0.0, 0.0, 0.6, 0.6)),
    'cells': ('ihc.png', (0.0, 0.0, 0.6, 0.6)),
    'china': ('china.jpg', (0.2, 0.45, 0.8, 0.95)),
    'coffee': ('coffee.png', (0.25, 0.15, 0.75, 0.9)),
    'coins': ('coins.png', (0.05, 0.1, 0.75, 0.95)),
    'flower': ('flower.jpg', (0.4, 0.1, 0.9, 0.85)),
    'fur': ('chelsea.png', (0.15, 0.05, 0.6, 0.65)),
    'grass': ('grass.png', (0.0, 0.0, 0.6, 0.6)),
    'gravel': ('gravel.png', (0.0, 0.0, 0.6, 0.6)),
    'motorcycle': ('motorcycle_left.png', (0.3, 0.3, 0.8, 0.9)),
    'page': ('page.png', (0.05, 0.1, 0.7, 0.9)),
    'retina': ('retina.jpg', (0.25, 0.25, 0.75, 0.75)),
    'skin': ('astronaut.png', (0.41, 0.16, 0.49, 0.2)),
    'stars': ('hubble_deep_field.jpg', (0.0, 0.0, 0.6, 0.6)),
    'cloudy sky': ('camera.png', (0.6, 0.0, 1.0, 0.3)),
    'dawn sky': ('rocket.jpg', (0.55, 0.0, 1.0, 0.6)),
    'hazy sky': ('china.jpg', (0.0, 0.0, 0.3, 0.12)),
}
_EDGE = 128
_FEWEST = 4  # pixels of the coarsest level


@cache
def photograph(name: str) -> Image:
    """One of the sample images, by its file name, as RGB.

    Raises:
        ConfigError: if scikit-image is not there.
    """
    from PIL import Image

    with Image.open(_folder(name) / name) as image:
        return image.convert('RGB')


@cache
def tile(name: str) -> tuple[np.ndarray, ...]:
    """A part of a photograph, fine to coarse: (E, E, 3) float32 in 0 ... 1 of 128, 64 ... 4 pixels, mean grey 0.5."""
    from PIL import Image

    file, part = TILES[name]
    image = photograph(file)
    box = tuple(share * edge for share, edge in zip(part, (*image.size, *image.size)))
    levels, edge = [], _EDGE
    while edge >= _FEWEST:
        small = image.resize((edge, edge), Image.Resampling.BOX, box)
        levels.append(np.asarray(small, np.float32) / 255)
        edge //= 2
    # The photographs differ in exposure; equally bright ones leave the brightness to the tint.
    scale = 0.5 / max(float(levels[0].mean()), 1e-3)
    return tuple(np.minimum(level * scale, 1).astype(np.float32) for level in levels)


def _folder(name: str) -> Path:
    if name in ('china.jpg', 'flower.jpg'):
        import sklearn.datasets

        return Path(sklearn.datasets.__file__).parent / 'images'
    try:
        import skimage
    except ImportError as error:
        raise ConfigError("photographs that come with scikit-image are needed: pip install 'clear-framework[data]'."
                          ) from error
    return Path(skimage.__file__).parent / 'data'
