"""Images of one size: the shorter side resized, the centre cut out."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from clear.core.checks import check_choice, check_whole
from clear.datasets.images import decode as decoding
from clear.datasets.images.decode import ImageDecoder, UnreadableImage

INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos')


class ResizedDecoder:
    """`decoder(content)` is a file's image as (H, W, 3) uint8 RGB with the shorter side resized.

    Args:
        size: of the shorter side; None keeps images as they are.
        interpolation: antialiased. With 'cv2' bilinear and bicubic have a fast form that differs from PIL's by at most
            2 of 255; the others are PIL's.
        decoder: 'pil' or 'cv2'.

    Raises:
        ConfigError: if an option is unknown or out of range. A call raises UnreadableImage, with the reason; also for
            an image so thin that it would become larger than any may be.
    """

    shape = None

    def __init__(self, size: int | None, interpolation: str, decoder: str):
        check_choice('interpolation', interpolation, INTERPOLATIONS)
        self.size = size
        self.interpolation = interpolation
        self.decode = ImageDecoder(decoder)

    def settings(self) -> dict:
        """What the pixels depend on besides the file; versions, because kernels change in the last bit."""
        return {**self.decode.settings(), 'resize': self.size, 'interpolation': self.interpolation,
                'torch': torch.__version__}

    def __call__(self, content: bytes) -> np.ndarray:
        image = self.decode(content)
        return self.resized(image, *self.size_of(image))

    def size_of(self, image: np.ndarray) -> tuple[int, int]:
        """Height and width after the resize of the shorter side; of a resized image its own.

        Raises:
            UnreadableImage: if that would be larger than any image may be.
        """
        if self.size is None:
            return image.shape[:2]
        height, width = shorter_side_size(*image.shape[:2], self.size)
        if height * width > decoding.MAX_PIXELS:
            raise UnreadableImage(f'{image.shape[1]} x {image.shape[0]} pixels would become {width} x {height}, more '
                                  f'than {decoding.MAX_PIXELS}')
        return height, width

    def resized(self, image: np.ndarray, height: int, width: int) -> np.ndarray:
        return resize_image(image, height, width, self.interpolation, fast=self.decode.name == 'cv2')


class SquareDecoder:
    """`decoder(content)` is a file's image as (3, size, size) uint8 RGB: shorter side resized, the middle cut out.

    Args:
        size, interpolation, decoder: as for `ResizedDecoder`.

    Raises:
        ConfigError: if an option is unknown or out of range. A call raises UnreadableImage, with the reason.
    """

    def __init__(self, size: int, interpolation: str = 'bilinear', decoder: str = 'pil'):
        check_whole('image_size', size, 1)
        self.shape = (3, size, size)
        self._resized = ResizedDecoder(size, interpolation, decoder)

    def settings(self) -> dict:
        """What the pixels depend on besides the file."""
        settings = self._resized.settings()
        return {'square': settings.pop('resize'), **settings}

    def __call__(self, content: bytes) -> np.ndarray:
        size = self.shape[1]
        square = np.empty((size, size, 3), np.uint8)
        centre_crop_into(square, self._resized(content))
        return np.ascontiguousarray(square.transpose(2, 0, 1))


def shorter_side_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width after the shorter side became `size`; the longer one is rounded down, as torchvision does."""
    if height <= width:
        return size, int(size * width / height)
    return int(size * height / width), size


def resize_image(image: np.ndarray, height: int, width: int, interpolation: str, *, fast: bool) -> np.ndarray:
    """(H, W, 3) uint8 to (height, width, 3), antialiased; the input itself if it has that size.

    Args:
        fast: for 'bilinear' and 'bicubic', kernels of OpenCV and torch in place of PIL's.
    """
    if image.shape[:2] == (height, width):
        return image
    if not fast or interpolation not in ('bilinear', 'bicubic'):
        return np.array(Image.fromarray(np.ascontiguousarray(image)).resize(
            (width, height), Image.Resampling[interpolation.upper()]))
    if interpolation == 'bilinear' and height >= image.shape[0] and width >= image.shape[1]:
        import cv2

        # Enlarging needs no antialias, and without it OpenCV is three times as fast as torch. (Its bicubic kernel
        # is another one than PIL's.)
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    if not image.flags.writeable:
        image = image.copy()  # torch warns of arrays that are read-only
    # The batch axis first: torch then sees that channels are last in memory and returns them so. Otherwise every
    # later step would copy.
    pixels = torch.from_numpy(image).unsqueeze(0).permute(0, 3, 1, 2)  # (1, 3, H, W)
    resized = torch.nn.functional.interpolate(pixels, (height, width), mode=interpolation, antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def centre_crop_into(out: np.ndarray, image: np.ndarray) -> None:
    """The middle of (H, W, 3) into a square (S, S, 3), with black around an image that is smaller."""
    size = len(out)
    height, width = image.shape[:2]
    if height < size or width < size:
        out[:] = 0
    # The rounding is torchvision's: down on the padded side, half to even on the cropped one.
    down, right = max(size - height, 0) // 2, max(size - width, 0) // 2
    top, left = round(max(height - size, 0) / 2), round(max(width - size, 0) / 2)
    part = image[top:top + size, left:left + size]
    out[down:down + part.shape[0], right:right + part.shape[1]] = part
