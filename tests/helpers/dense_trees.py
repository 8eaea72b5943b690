"""Miniature copies of the layouts of data sets with a target for every pixel, written file by file."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def save(path: Path, pixels, **options) -> bytes:
    """Write pixels as PIL has them: uint8, uint16, float32 or bool, one channel or RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path.read_bytes()


def save_palette(path: Path, ids, **options) -> bytes:
    """Write ids as indices of a palette in which no colour equals its index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.asarray(ids, np.uint8)
    image = Image.frombytes('P', ids.shape[::-1], ids.tobytes())
    image.putpalette([(7 * value + channel + 1) % 256 for value in range(256) for channel in range(3)])
    image.save(path, **options)
    return path.read_bytes()


def save_rgb_of_16_bits(path: Path, rgb) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(rgb, np.uint16)[..., ::-1])
    return path.read_bytes()


def photo(path: Path, size=(2, 3), value=0) -> None:
    """An image of one grey."""
    save(path, np.full((*size, 3), value, np.uint8))
