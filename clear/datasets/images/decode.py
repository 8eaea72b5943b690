"""Opening one image: any common file becomes 8-bit RGB, or a stated reason why not.

PIL sets the rules. OpenCV is about 1.7 times as fast and gives the same pixels for ordinary JPEG and PNG files;
`ImageDecoder` uses it for those and PIL for the rest.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import io
import os
import stat
import struct
import threading
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from clear.core.errors import ConfigError
from clear.core.files import inside

DECODERS = ('cv2', 'pil')
MAX_PIXELS = 89_478_485  # PIL's own limit against decompression bombs: a quarter of a gigabyte as RGB

# A pixel of the largest kind, four channels of 32 bits, without compression: no file of MAX_PIXELS is larger.
MAX_BYTES = 16 * MAX_PIXELS
# Formats whose pixels PIL reads itself. It knows more, some of which it has rendered by another program (PostScript).
_RASTER = {'JPEG': 'Jpeg', 'PNG': 'Png', 'WEBP': 'WebP', 'GIF': 'Gif', 'BMP': 'Bmp', 'TIFF': 'Tiff', 'PPM': 'Ppm',
           'MPO': 'Mpo', 'JPEG2000': 'Jpeg2K', 'AVIF': 'Avif', 'ICO': 'Ico', 'PCX': 'Pcx', 'SGI': 'Sgi', 'QOI': 'Qoi',
           'TGA': 'Tga'}

# What PIL's readers raise on damaged files. Only decoding is under this guard, so a bug elsewhere still shows.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, RuntimeError,
                 AssertionError, ArithmeticError, struct.error, zlib.error, Image.DecompressionBombError)
# These say that the machine is short of something, not that the file is bad.
NOT_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# PIL turns a TIFF, and no other file, by its orientation as it loads it; these turn it back.
_AS_STORED = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
              5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
              8: Image.Transpose.ROTATE_270}
_ORIENTATION = 0x0112  # the EXIF tag


class _Silence:
    """No warnings while any thread is inside. `warnings.catch_warnings` alone is not safe there: two threads that
    leave in another order than they came would leave warnings off for good.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._inside = 0
        self._caught: warnings.catch_warnings | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter('ignore')
            self._inside += 1

    def __exit__(self, *error) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._caught.__exit__(*error)


_silence = _Silence()


class UnreadableImage(Exception):
    """The image is missing, damaged, too large, or no image; the message is the reason."""


def decode_image(source: str | Path | bytes) -> Image.Image:
    """The image as PIL RGB. EXIF orientation is left alone in every format; of an animation the first frame.

    Alpha is dropped, not blended (as torchvision's folder loader does); 16-bit grey keeps its high byte. Only raster
    formats are read, by PIL itself: whatever would need another program is no image.

    Args:
        source: a path, or the bytes of a file.

    Raises:
        UnreadableImage: with the reason.
    """
    return _decode_by_pil(source if isinstance(source, bytes) else read_file(source))[0]


def read_header(content: bytes) -> tuple[str, int, int]:
    """PIL's name of the format, width and height of an image file; no pixel is decoded. An MPO, which is a JPEG with
    others behind it, is called one.

    Raises:
        UnreadableImage: if it is none, or has more than `MAX_PIXELS`; with the reason.
    """
    # PIL reads every segment of a JPEG, a quarter of what fetching a photo costs in all.
    if content.startswith(b'\xff\xd8') and (size := _jpeg_size(content)) is not None:
        if (reason := _too_large(*size)) is not None:
            raise UnreadableImage(reason)
        return 'JPEG', *size
    with opened(io.BytesIO(content)) as image:
        kind = image.format or 'unknown'
        return 'JPEG' if kind == 'MPO' else kind, image.width, image.height


@contextlib.contextmanager
def opened(file: BinaryIO) -> Iterator[Image.Image]:
    """The image in an open file, of which so far the header alone is read.

    Only what PIL does belongs inside: whatever it raises on damaged files becomes the reason.

    Raises:
        UnreadableImage: if it is none, or has more than `MAX_PIXELS`, or is damaged, with the reason.
    """
    try:
        # PIL warns of large, odd and damaged files, each with its own text, so a data set could print thousands of
        # lines. What matters is in the exception.
        with _silence, Image.open(file, formats=_formats()) as image:
            if (reason := _too_large(image.width, image.height)) is not None:
                raise ValueError(reason)
            yield image
    except DECODE_ERRORS as error:
        if getattr(error, 'errno', None) in NOT_THE_FILE:
            raise
        raise UnreadableImage(_reason(error)) from error


def read_file(path: str | Path) -> bytes:
    """The content of an image file.

    Raises:
        UnreadableImage: with the reason; for pipes and devices, which may have no end, without opening them.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - per image, as below
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise UnreadableImage('not a regular file')
        if status.st_size > MAX_BYTES:
            raise UnreadableImage(f'{status.st_size} bytes, more than {MAX_BYTES}')
        return Path(path).read_bytes()
    except OSError as error:
        if error.errno in NOT_THE_FILE:
            raise
        raise UnreadableImage(_reason(error)) from error
    except ValueError as error:  # a NUL, or half a surrogate pair: no file can be called so
        raise UnreadableImage('missing') from error


def file_below(root: str | Path, path: str) -> str:
    """`root/path` as text.

    Raises:
        DataError: if it leaves `root`.
    """
    # This is per image: pathlib takes 100 us.
    if os.path.isabs(path) or '..' in path:  # noqa: PTH117
        inside(root, path)
    return os.path.join(root, path)  # noqa: PTH118


class ImageDecoder:
    """`decoder(content)` is the file content as (H, W, 3) uint8 RGB, by the rules of `decode_image`.

    Args:
        name: 'cv2' decodes JPEG of one or three channels and plain PNG by OpenCV, everything else by PIL: CMYK,
            animated and interlaced files, other formats, and whatever OpenCV refuses. 'pil' is PIL for all. For a
            JPEG or PNG that is damaged inside but has its end, the library below OpenCV writes a line to stderr.

    Attributes:
        fallbacks: images that PIL decoded in place of OpenCV, by format, in this process.

    Raises:
        ConfigError: if the name is unknown. A call raises UnreadableImage, with the reason.
    """

    shape = None  # images keep their sizes

    def __init__(self, name: str = 'cv2'):
        if name not in DECODERS:
            raise ConfigError(f"decoder is {name!r}, expected one of {', '.join(map(repr, DECODERS))}.")
        self.name = name
        self.fallbacks: Counter[str] = Counter()

    def settings(self) -> dict:
        """What the pixels depend on besides the file; versions, because codecs change in the last bit."""
        import cv2
        import PIL

        return {'decoder': self.name, 'max_pixels': MAX_PIXELS, 'orientation': 'as stored',
                'versions': [PIL.__version__, cv2.__version__]}

    def __call__(self, content: bytes) -> np.ndarray:
        if self.name == 'cv2':
            array = _decode_by_cv2(content)
            if array is not None:
                return array
        image, kind = _decode_by_pil(content)
        if self.name == 'cv2':
            self.fallbacks[kind] += 1
        return np.array(image)  # a copy: what PIL lends is read-only


def _decode_by_pil(content: bytes) -> tuple[Image.Image, str]:
    """The RGB image and the name of its format."""
    with opened(io.BytesIO(content)) as image:
        # Asked before loading, which forgets it.
        turned = image.getexif().get(_ORIENTATION) if image.format == 'TIFF' else None
        image.load()
        rgb = to_rgb(image)
        return rgb.transpose(_AS_STORED[turned]) if turned in _AS_STORED else rgb, image.format or 'unknown'


@functools.cache
def _formats() -> tuple[str, ...]:
    """The raster formats that this PIL has; only their readers are imported."""
    for plugin in _RASTER.values():
        with contextlib.suppress(ImportError):
            importlib.import_module(f'PIL.{plugin}ImagePlugin')
    return tuple(name for name in _RASTER if name in Image.OPEN)


def _decode_by_cv2(content: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB, or None where PIL must decide."""
    size = _jpeg_size(content) if content.startswith(b'\xff\xd8') else _png_size(content)
    if size is None or 0 in size or size[0] * size[1] > MAX_PIXELS:
        return None
    import cv2

    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Width and height from the header of an 8-bit Huffman-coded JPEG of 1 or 3 channels, else None."""
    position = 2
    while position + 10 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive
            precision, height, width, channels = struct.unpack_from('>BHHB', content, position + 4)
            return (width, height) if precision == 8 and channels in (1, 3) else None
        position += 2 + int.from_bytes(content[position + 2:position + 4], 'big')
    return None


def _png_size(content: bytes) -> tuple[int, int] | None:
    """Width and height from the header of a whole PNG that is neither animated nor interlaced, else None."""
    # OpenCV prints a line for a PNG without its end; PIL says it in the exception.
    if not content.startswith(b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR') or not content.endswith(b'IEND\xaeB`\x82'):
        return None
    width, height = struct.unpack_from('>II', content, 16)
    is_interlaced = content[28] != 0
    is_animated = content.find(b'acTL', 33, content.find(b'IDAT', 33)) >= 0
    return None if is_interlaced or is_animated else (width, height)


def _too_large(width: int, height: int) -> str | None:
    return f'{width} x {height} pixels, more than {MAX_PIXELS}' if width * height > MAX_PIXELS else None


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


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return 'missing'
    if isinstance(error, Image.UnidentifiedImageError):
        return 'not an image'
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or type(error).__name__
    return str(error) or type(error).__name__
