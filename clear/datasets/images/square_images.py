"""Images as uint8 squares of one size: shorter side resized, centre cut out, kept for the next epoch."""

from __future__ import annotations

import errno
import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clear.core.checks import check_whole
from clear.core.errors import ConfigError
from clear.datasets.images import decode as decoding
from clear.datasets.images.cache import DiskCache, check_cache
from clear.datasets.images.decode import ImageDecoder, UnreadableImage, file_below, read_file
from clear.datasets.images.pipeline import INTERPOLATIONS, centre_crop_into, resize_image, shorter_side_size


class SquareImages:
    """`squares[row]` is image `row` as (3, size, size) uint8 RGB; lent, so do not write to it.

    Args:
        root: what `paths` are relative to; none may leave it.
        size: side in pixels. The shorter side of an image is resized to it (antialiased) and the middle is cut out.
        interpolation, decoder: as for `ImagePipeline`.
        cache: None decodes every time. 'ram' keeps the squares, 3 * size**2 bytes each (5,000 of 64 pixels: 61 MB),
            in memory that forked loader workers share: what one has decoded, all have, in every later epoch. 'disk'
            keeps them in files below `cache_dir`, for all processes and later runs.

    Raises:
        ConfigError: if an option is unknown or out of range, or 'ram' asks for more memory than there is.
    """

    def __init__(self, root: str | Path, paths: Sequence[str], size: int, *, interpolation: str = 'bilinear',
                 decoder: str = 'pil', cache: str | None = None, cache_dir: str | Path | None = None):
        check_whole('image_size', size, 1)
        if interpolation not in INTERPOLATIONS:
            raise ConfigError(f'interpolation is {interpolation!r}, expected one of {", ".join(INTERPOLATIONS)}.')
        check_cache(cache, cache_dir)
        self.root = Path(root)
        self.paths = paths
        self.size = size
        self.interpolation = interpolation
        self._decode = ImageDecoder(decoder)
        self._disk = DiskCache(cache_dir, root, paths, self._planes_as_rows, settings=self._settings()) \
            if cache == 'disk' else None
        self._ram = SharedSquares(len(paths), size) if cache == 'ram' else None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> np.ndarray:
        """The image.

        Raises:
            UnreadableImage: with the reason.
        """
        if self._ram is not None:
            found = self._ram.get(row)
            return self._ram.put(row, self._read(row)) if found is None else found
        if self._disk is not None:
            return self._disk[row].reshape(3, self.size, self.size)
        return self._read(row)

    def _read(self, row: int) -> np.ndarray:
        return self._square(read_file(file_below(self.root, self.paths[row])))

    def _square(self, content: bytes) -> np.ndarray:
        image = self._decode(content)
        height, width = shorter_side_size(*image.shape[:2], self.size)
        if height * width > decoding.MAX_PIXELS:
            raise UnreadableImage(f'{image.shape[1]} x {image.shape[0]} pixels would become {width} x {height}, more '
                                  f'than {decoding.MAX_PIXELS}')
        resized = resize_image(image, height, width, self.interpolation, fast=self._decode.name == 'cv2')
        square = np.empty((self.size, self.size, 3), np.uint8)
        centre_crop_into(square, resized)
        return np.ascontiguousarray(square.transpose(2, 0, 1))

    def _planes_as_rows(self, content: bytes) -> np.ndarray:
        """The planes in the shape that the disk cache stores, (H, W, 3); reading them back moves no byte."""
        return self._square(content).reshape(self.size, self.size, 3)

    def _settings(self) -> dict:
        """What the pixels depend on besides the files; versions, because kernels change in the last bit."""
        import torch

        return {**self._decode.settings(), 'square': self.size, 'interpolation': self.interpolation,
                'torch': torch.__version__}


class SharedSquares:
    """N squares in memory that a process shares with those it forks; pages are taken when they are written.

    A copy sent to another process starts empty.
    """

    def __init__(self, count: int, size: int):
        self._count, self._size = count, size
        num_bytes = count * 3 * size**2
        try:
            # Anonymous memory in place of torch's shared tensors: those take all of it at once, from /dev/shm, which
            # is 64 MB in a container.
            self._pixels = np.frombuffer(mmap.mmap(-1, num_bytes), np.uint8).reshape(count, 3, size, size)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            raise ConfigError(f"cache='ram' needs {num_bytes / 2**30:.1f} GiB for {count} images of {size} x {size} "
                              "pixels, more than there is. Use cache='disk' or None, or a smaller image_size."
                              ) from error
        self._is_there = np.frombuffer(mmap.mmap(-1, count), np.bool_)

    def get(self, row: int) -> np.ndarray | None:
        """(3, size, size), or None where nothing was put yet."""
        return self._pixels[row] if self._is_there[row] else None

    def put(self, row: int, square: np.ndarray) -> np.ndarray:
        """Keep a copy and return it. Two processes that put one row at once write the same bytes."""
        self._pixels[row] = square
        self._is_there[row] = True  # last, so that nobody takes a half for the whole
        return self._pixels[row]

    def __getstate__(self) -> dict:
        return {'count': self._count, 'size': self._size}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)
