"""Opening one image: any common file becomes 8-bit RGB, or a stated reason why not.

PIL sets the rules. OpenCV is about 1.7 times as fast and gives the same pixels for ordinary JPEG and PNG files;
`ImageDecoder` uses it for those and PIL for the rest.
"""

from __future__ import annotations

import errno
import io
import os
import struct
import threading
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from clear.core.errors import ConfigError
from clear.core.files import inside

DECODERS = ('cv2', 'pil')
MAX_PIXELS = 89_478_485  # PIL's own limit against decompression bombs: a quarter of a gigabyte as RGB

# What PIL's readers raise on damaged files. Only decoding is under this guard, so a bug elsewhere still shows.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error,
                  Image.DecompressionBombError)
# These say that the machine is short of something, not that the file is bad.
_NOT_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


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
    """The image as PIL RGB. EXIF orientation is left alone; of an animation the first frame.

    Alpha is dropped, not blended (as torchvision's folder loader does); 16-bit grey keeps its high byte.

    Args:
        source: a path, or the bytes of a file.

    Raises:
        UnreadableImage: with the reason.
    """
    return _decode_by_pil(source)[0]


def read_file(path: str | Path) -> bytes:
    """The content of an image file.

    Raises:
        UnreadableImage: with the reason.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        if error.errno in _NOT_THE_FILE:
            raise
        raise UnreadableImage(_reason(error, path)) from error


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

    def __init__(self, name: str = 'cv2'):
        if name not in DECODERS:
            raise ConfigError(f"decoder is {name!r}, expected one of {', '.join(map(repr, DECODERS))}.")
        self.name = name
        self.fallbacks: Counter[str] = Counter()

    def settings(self) -> dict:
        """What the pixels depend on besides the file; versions, because codecs change in the last bit."""
        import cv2
        import PIL

        return {'decoder': self.name, 'max_pixels': MAX_PIXELS, 'versions': [PIL.__version__, cv2.__version__]}

    def __call__(self, content: bytes) -> np.ndarray:
        if self.name == 'cv2':
            array = _decode_by_cv2(content)
            if array is not None:
                return array
        image, kind = _decode_by_pil(content)
        if self.name == 'cv2':
            self.fallbacks[kind] += 1
        return np.array(image)  # a copy: what PIL lends is read-only


def _decode_by_pil(source: str | Path | bytes) -> tuple[Image.Image, str]:
    """The RGB image and the name of its format."""
    try:
        # PIL warns of large, odd and damaged files, each with its own text, so a data set could print thousands of
        # lines. What matters is in the exception.
        with _silence, Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            _check_size(image.width, image.height)
            image.load()
            return to_rgb(image), image.format or 'unknown'
    except DECODE_ERRORS as error:
        if getattr(error, 'errno', None) in _NOT_THE_FILE:
            raise
        raise UnreadableImage(_reason(error, source)) from error


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


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f'{width} x {height} pixels, more than {MAX_PIXELS}')


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
