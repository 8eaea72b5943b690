"""Opening one image: any common file becomes 8-bit RGB, or a stated reason why not."""

from __future__ import annotations

import errno
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

MAX_PIXELS = 89_478_485  # PIL's own limit against decompression bombs: a quarter of a gigabyte as RGB

# What PIL's readers raise on damaged files. Only decoding is under this guard, so a bug elsewhere still shows.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error,
                  Image.DecompressionBombError)
# These say that the machine is short of something, not that the file is bad.
_NOT_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class UnreadableImage(Exception):
    """The image is missing, damaged, too large, or no image; the message is the reason."""


def decode_image(source: str | Path | bytes) -> Image.Image:
    """The image as PIL RGB. EXIF orientation is left alone; of an animation the first frame.

    Alpha is dropped, not blended (as torchvision's folder loader does); 16-bit grey keeps its high byte.

    Args:
        source: a path, or the bytes of a file.

    Raises:
        UnreadableImage: with the reason.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f'{image.width} x {image.height} pixels, more than {MAX_PIXELS}')
            image.load()
            return to_rgb(image)
    except _DECODE_ERRORS as error:
        if getattr(error, 'errno', None) in _NOT_THE_FILE:
            raise
        raise UnreadableImage(_reason(error, source)) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded image of any integer mode as RGB.

    Raises:
        ValueError: for floating-point pixels, whose range is unknown.
    """
    if image.mode == 'RGB':
        return image.copy() if getattr(image, 'is_animated', False) else image
    if image.mode == 'F':
        raise ValueError('floating-point pixels, which have no known range')
    if image.mode.startswith('I'):
        # PIL's conversion clips 16-bit values at 255, which leaves almost white images.
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert('RGB')
    if image.mode == 'P' and 'transparency' in image.info:
        image = image.convert('RGBA')
    return image.convert('RGB')


def _reason(error: Exception, source: str | Path | bytes) -> str:
    if isinstance(error, FileNotFoundError):
        return 'missing'
    if isinstance(error, Image.UnidentifiedImageError):
        return 'not an image'
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or type(error).__name__
    text = str(error) or type(error).__name__
    return text if isinstance(source, bytes) else text.replace(str(source), Path(source).name)
