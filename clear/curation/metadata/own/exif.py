"""When a photo was taken, by its own words: EXIF's DateTimeOriginal, from the header alone."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from clear.datasets.images.decode import DECODE_ERRORS

# Those that carry EXIF and are read by PIL itself. It opens formats that are asked for only if their module is there.
_FORMATS = dict(JPEG=JpegImagePlugin, TIFF=TiffImagePlugin, WEBP=WebPImagePlugin, PNG=PngImagePlugin)
_EXIF_IFD, _ORIGINAL, _FRACTION = 0x8769, 36867, 37521


def taken_time(path: Path) -> str:
    """What the camera wrote, `YYYY:MM:DD HH:MM:SS[.f]` if it did as it should; empty without, or of a damaged file."""
    try:
        with warnings.catch_warnings(action='ignore'), Image.open(path, formats=tuple(_FORMATS)) as image:
            if image.format == 'PNG' and 'exif' not in image.info:
                return ''  # PIL would decode the pixels to look behind them
            tags = image.getexif().get_ifd(_EXIF_IFD)
            text, fraction = (_text(tags.get(tag)) for tag in (_ORIGINAL, _FRACTION))
    except DECODE_ERRORS:
        return ''
    return f'{text}.{fraction}' if fraction.isascii() and fraction.isdigit() and len(fraction) <= 6 else text


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode('latin-1')
    return value.strip('\0 ') if isinstance(value, str) else ''
