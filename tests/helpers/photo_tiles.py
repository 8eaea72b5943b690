"""Tiles of the photographs that scikit-image and scikit-learn bring, and the copies that people make of images."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

_SKIMAGE = ('astronaut.png', 'brick.png', 'camera.png', 'chelsea.png', 'coffee.png', 'coins.png', 'grass.png',
            'gravel.png', 'hubble_deep_field.jpg', 'ihc.png', 'motorcycle_left.png', 'retina.jpg', 'rocket.jpg')


def photo_tiles(size=96, min_std=15.0):
    """Squares that do not overlap, in RGB, but for those that are nearly of one colour."""
    import skimage
    import sklearn

    files = [Path(skimage.__file__).parent / 'data' / name for name in _SKIMAGE]
    files += [Path(sklearn.__file__).parent / 'datasets' / 'images' / name for name in ('china.jpg', 'flower.jpg')]
    found = []
    for file in files:
        image = Image.open(file).convert('RGB')
        for top in range(0, image.height - size + 1, size):
            for left in range(0, image.width - size + 1, size):
                tile = image.crop((left, top, left + size, top + size))
                if np.asarray(tile.convert('L'), float).std() >= min_std:
                    found.append(tile)
    return found


def encoded_anew(image, rng):
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=int(rng.integers(30, 80)))
    return Image.open(buffer).convert('RGB')


def resized(image, rng):
    factor = rng.choice([0.5, 0.6, 0.75, 1.5, 2])
    return image.resize((round(image.width * factor), round(image.height * factor)), int(rng.choice([2, 3])))


def cropped(image, rng, area=0.9):
    """A tenth of the area away, anywhere."""
    width, height = (round(side * area ** 0.5) for side in image.size)
    left, top = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
    return image.crop((left, top, left + width, top + height))


def mirrored(image, rng):
    return ImageOps.mirror(image)


def without_rim(image, rng):
    """A tenth of each side away."""
    across, down = round(image.width * 0.1), round(image.height * 0.1)
    return image.crop((across, down, image.width - across, image.height - down))


def cut_at_one_side(image, rng):
    """A tenth away at one side."""
    width, height = image.size
    across, down = round(width * 0.1), round(height * 0.1)
    boxes = [(across, 0, width, height), (0, 0, width - across, height), (0, down, width, height),
             (0, 0, width, height - down)]
    return image.crop(boxes[rng.integers(4)])


KINDS = (encoded_anew, resized, cropped, mirrored)
