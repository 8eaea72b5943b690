"""The pixels of a file exactly as they are stored: ids of a palette, 16 bits, floats. No reader of photographs does it.

A reader for photographs turns a palette into its colours, 16 bits into 8 and grey of 2 bits into grey of 8, each
without a word.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from clear.datasets.images.decode import UnreadableImage, opened

_PNG_PIXELS = {0: 'grey', 2: 'RGB', 3: 'palette', 4: 'grey and alpha', 6: 'RGBA'}
_MODES = {'1': ('grey', 1), 'L': ('grey', 8), 'P': ('palette', 8), 'F': ('float', 32), 'I': ('grey', 32)}
_HEADER_BYTES = 26  # of a PNG, up to its bits and its kind of pixels
# PIL spreads grey of few bits over 0 ... 255.
_SPREAD = {2: 85, 4: 17}


@dataclass(frozen=True)
class Raster:
    """What the header of an image file says.

    Attributes:
        format: PIL's name.
        pixels: 'grey', 'palette', 'float', 'RGB', or another name.
        bits: of each channel.
    """

    format: str
    pixels: str
    bits: int
    width: int
    height: int

    def __str__(self) -> str:
        return f'a {self.format} of {self.bits}-bit {self.pixels} pixels'


def read_raster(file: BinaryIO | bytes) -> Raster:
    """The header of an image in an open file or its content.

    Raises:
        UnreadableImage: if it is none, with the reason.
    """
    file = io.BytesIO(file) if isinstance(file, bytes) else file
    head = file.read(_HEADER_BYTES)
    file.seek(0)
    with opened(file) as image:
        kind, mode, size = image.format or 'unknown', image.mode, image.size
    if kind == 'PNG':
        return Raster(kind, _PNG_PIXELS.get(head[25], 'unknown'), head[24], *size)
    pixels, bits = ('grey', 16) if mode.startswith('I;16') else _MODES.get(mode, (mode, 8))
    return Raster('JPEG' if kind == 'MPO' else kind, pixels, bits, *size)


def stored_pixels(content: bytes, raster: Raster) -> np.ndarray:
    """The pixels of a file with one channel, or with RGB of 16 bits.

    Args:
        raster: what `read_raster` gives for it.

    Returns:
        (H, W) uint8, uint16, int32 or float32; of RGB (H, W, 3) uint8 or uint16.

    Raises:
        UnreadableImage: if it is damaged, with the reason.
    """
    if raster.pixels == 'RGB' and raster.bits == 16:
        return _rgb_of_16_bits(content)
    with opened(io.BytesIO(content)) as image:
        pixels = np.array(image)
    if raster.pixels == 'grey' and raster.bits in _SPREAD:
        pixels //= _SPREAD[raster.bits]
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def grey_pixels(content: bytes) -> np.ndarray:
    """(H, W) float32, 0 ... 255: the luminance of an image of 8 bits, by the weights of ITU-R 601, not rounded.

    Raises:
        UnreadableImage: if it is damaged, with the reason.
    """
    with opened(io.BytesIO(content)) as image:
        return np.array(image.convert('F'))


def _rgb_of_16_bits(content: bytes) -> np.ndarray:
    # PIL reads 16-bit RGB as 8-bit without a word.
    import cv2

    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableImage(f'damaged: {error}') from error
    if pixels is None:
        raise UnreadableImage('damaged')
    return np.ascontiguousarray(pixels[..., ::-1])  # BGR
