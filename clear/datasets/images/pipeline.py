"""Whole batches of images at the speed of the decoder: uint8 until the end, memory used again, nothing per pixel in
Python.

Each image is decoded and its shorter side resized once (and kept, with a cache); then it is cropped and flipped into a
uint8 batch, and the batch becomes normalised floats in one step.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clear.core.checks import check_whole
from clear.core.errors import ConfigError
from clear.datasets.images import decode as decoding
from clear.datasets.images.cache import DiskCache, RamCache, check_cache
from clear.datasets.images.decode import ImageDecoder, UnreadableImage, file_below, read_file
from clear.datasets.loaders.buckets import SampleContext

INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos')
AUGMENTATIONS = (None, 'crop_flip')
# Share of the area and aspect ratio of a random crop (Szegedy et al. 2015, arXiv:1409.4842; torchvision's defaults).
CROP_SCALE = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)


class ImagePipeline:
    """`pipeline.batch(rows)` is the images at `rows` as one float tensor, and which of them could be read.

    Without `augment`: shorter side to `resize`, centre crop (padded with black where the image is smaller),
    normalised; with `decoder='pil'` the same floats as torchvision's Resize, CenterCrop, ToTensor and Normalize on PIL
    images. With 'crop_flip': a random part of the resized image (its area, aspect and place as RandomResizedCrop
    draws them), scaled to `crop`, and flipped half of the time. Draws follow from (seed, experience, epoch, path).

    A cache does not change what is drawn, nor any pixel of a centre crop. Random parts come from the resized image
    with a cache and from the full one without (the same part, rounded to whole pixels): one resize in place of two
    is faster and a little sharper.

    An image that cannot be read is masked (zeros, valid False) and listed in `bad`. Channels are RGB.

    Args:
        root: what `paths` are relative to; none may leave it.
        resize: length of the shorter side; None keeps images as they are.
        crop: height and width of the output.
        mean, std: per channel, for values in [0, 1].
        interpolation: of every resize; antialiased. Bilinear and bicubic have a fast form that differs from PIL's by
            at most 2 of 255; the others are PIL's.
        decoder: 'cv2' or 'pil' (the reference: PIL decodes and resizes).
        cache: None decodes every time; 'ram' keeps the resized images, 3 bytes per pixel (0.26 MB for 341 x 256), in
            every process that reads them; 'disk' keeps them in `cache_dir`, for all processes and later runs.
        augment: None or 'crop_flip'.
        context: seed, experience and epoch of the draws; None makes one, to be set through `pipeline.context`.

    Attributes:
        bad: {row: reason} of the images that could not be read so far, in this process.
        fallbacks: images that PIL decoded for OpenCV, by format, in this process.

    Raises:
        ConfigError: if an option is unknown or out of range.
        DataError: from `batch`, if a path leaves `root` or `cache_dir` cannot be written.
    """

    def __init__(self, root: str | Path, paths: Sequence[str | Path], *, resize: int | None, crop: int,
                 mean: Sequence[float], std: Sequence[float], interpolation: str = 'bilinear', decoder: str = 'cv2',
                 cache: str | None = None, cache_dir: str | Path | None = None, augment: str | None = None,
                 context: SampleContext | None = None):
        _check_options(resize, crop, mean, std, interpolation, augment)
        check_cache(cache, cache_dir)
        self.root = Path(root)
        self.paths = [str(path) for path in paths]
        self.resize = resize
        self.crop = crop
        self.interpolation = interpolation
        self.augment = augment
        self.context = context or SampleContext()
        self.bad: dict[int, str] = {}
        self._decoder = ImageDecoder(decoder)
        self._table = _normalisation_table(mean, std)
        self._ram = RamCache() if cache == 'ram' else None
        self._disk = DiskCache(cache_dir, root, self.paths, self._prepare, settings=self._settings()) \
            if cache == 'disk' else None
        self._crops = np.empty((0, crop, crop, 3), np.uint8)
        self._images = torch.empty(0, 3, crop, crop)

    @property
    def decoder(self) -> str:
        return self._decoder.name

    @property
    def fallbacks(self) -> dict[str, int]:
        return dict(self._decoder.fallbacks)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        cache = 'disk' if self._disk is not None else 'ram' if self._ram is not None else None
        return (f'ImagePipeline({len(self)} images, resize={self.resize}, crop={self.crop}, '
                f'decoder={self.decoder!r}, cache={cache!r}, augment={self.augment!r})')

    def batch(self, rows: Sequence[int] | np.ndarray | torch.Tensor, *, copy: bool = False
              ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, 3, crop, crop) float32 and valid (B,) bool.

        Args:
            copy: by default the images lie in a buffer that the next call overwrites (new memory costs more than
                all of the arithmetic); True gives them memory of their own.

        Raises:
            IndexError: if a row is not in 0 ... N - 1.
        """
        rows = [int(row) for row in rows]
        outside = [row for row in rows if not 0 <= row < len(self)]
        if outside:
            raise IndexError(f'row {outside[0]} is not among the {len(self)} images.')
        if len(rows) > len(self._crops):
            self._crops = np.zeros((len(rows), self.crop, self.crop, 3), np.uint8)
            self._images = torch.empty(len(rows), 3, self.crop, self.crop)
        valid = torch.tensor([self._crop_into(self._crops[place], row) for place, row in enumerate(rows)],
                             dtype=torch.bool)
        images = self._images[:len(rows)]
        normalise_into(images.numpy(), self._crops[:len(rows)], self._table)
        for place, is_valid in enumerate(valid.tolist()):  # `images[~valid] = 0` would pass over the whole batch
            if not is_valid:
                images[place] = 0
        return (images.clone() if copy else images), valid

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_crops': self._crops[:0].copy(), '_images': self._images[:0].clone()}

    def _settings(self) -> dict:
        """What the kept pixels depend on besides the files."""
        return {**self._decoder.settings(), 'resize': self.resize, 'interpolation': self.interpolation,
                'torch': torch.__version__}

    def _read(self, row: int) -> np.ndarray | None:
        """(H, W, 3) uint8, as `_prepare` gives it, or None for an image that cannot be read."""
        if row in self.bad:
            return None
        try:
            if self._disk is not None:
                return self._disk[row]
            image = self._ram[row] if self._ram is not None else None
            if image is None:
                image = self._prepare(read_file(file_below(self.root, self.paths[row])))
                image = image if self._ram is None else self._ram.put(row, image)
            return image
        except UnreadableImage as error:
            self.bad[row] = str(error)
            return None

    def _prepare(self, content: bytes) -> np.ndarray:
        """Decoded, with the shorter side resized unless a random part of the full image is to be cut."""
        image = self._decoder(content)
        height, width = self._size(image)
        if self._cuts_full_images:
            return image
        return resize_image(image, height, width, self.interpolation, fast=self.decoder == 'cv2')

    @property
    def _cuts_full_images(self) -> bool:
        return self.augment is not None and self._ram is None and self._disk is None

    def _size(self, image: np.ndarray) -> tuple[int, int]:
        """Height and width after the resize of the shorter side; of a resized image its own."""
        if self.resize is None:
            return image.shape[:2]
        height, width = shorter_side_size(*image.shape[:2], self.resize)
        if height * width > decoding.MAX_PIXELS:
            raise UnreadableImage(f'{image.shape[1]} x {image.shape[0]} pixels would become {width} x {height}, more '
                                  f'than {decoding.MAX_PIXELS}')
        return height, width

    def _crop_into(self, out: np.ndarray, row: int) -> bool:
        """Write the crop of one image; False, and `out` as it was, for an image that cannot be read."""
        image = self._read(row)
        if image is None:
            return False
        if self.augment is None:
            centre_crop_into(out, image)
            return True
        draws = random.Random(self.context.seed_of('augment', self.paths[row]))
        size = self._size(image)
        part = cut_box(image, size, random_box(*size, draws))
        part = resize_image(part, self.crop, self.crop, self.interpolation, fast=self.decoder == 'cv2')
        if draws.random() < 0.5:
            import cv2

            cv2.flip(part, 1, dst=out)
        else:
            out[:] = part
        return True


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


def random_box(height: int, width: int, draws: random.Random) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random part, distributed as torchvision's RandomResizedCrop draws it."""
    low, high = math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])
    for _ in range(10):
        area = height * width * draws.uniform(*CROP_SCALE)
        ratio = math.exp(draws.uniform(low, high))
        part_width, part_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < part_width <= width and 0 < part_height <= height:
            top, left = draws.randint(0, height - part_height), draws.randint(0, width - part_width)
            return top, left, part_height, part_width
    # A long, thin image: the largest part of allowed aspect, in the middle.
    part_width = max(1, min(width, round(height * CROP_RATIO[1])))
    part_height = max(1, min(height, round(width / CROP_RATIO[0])))
    return (height - part_height) // 2, (width - part_width) // 2, part_height, part_width


def cut_box(image: np.ndarray, size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """The part of (H, W, 3) that `box` (top, left, height, width) is of the same image at `size` (height, width)."""
    edges = []
    for length, target, start, extent in zip(image.shape, size, box[:2], box[2:]):
        first = min(round(start * length / target), length - 1)
        edges.append(slice(first, max(first + 1, round((start + extent) * length / target))))
    return image[edges[0], edges[1]]


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


def normalise_into(out: np.ndarray, images: np.ndarray, table: np.ndarray) -> None:
    """uint8 (B, H, W, 3) as float32 (B, 3, H, W), each value looked up in `table` (3, 256)."""
    import cv2

    # Image by image, so that the planes stay in the processor's cache between the two steps.
    planes = np.empty((3, *images.shape[1:3]), np.uint8)
    for image, target in zip(images, out):
        cv2.split(image, list(planes))
        for plane, values, into in zip(planes, table, target):
            cv2.LUT(plane, values, into)


def _normalisation_table(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(3, 256): (value / 255 - mean) / std in float32, operation by operation as torchvision computes it."""
    values = torch.arange(256, dtype=torch.float32).div(255).expand(3, 256).clone()
    values.sub_(torch.tensor(mean, dtype=torch.float32)[:, None]).div_(torch.tensor(std, dtype=torch.float32)[:, None])
    return values.numpy()


def _check_options(resize: int | None, crop: int, mean: Sequence[float], std: Sequence[float], interpolation: str,
                   augment: str | None) -> None:
    if resize is not None:
        check_whole('resize', resize, 1)
    check_whole('crop', crop, 1)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ConfigError(f'mean is {mean} and std {std}; expected three numbers each, std above 0.')
    if interpolation not in INTERPOLATIONS:
        raise ConfigError(f"interpolation is {interpolation!r}, expected one of {', '.join(INTERPOLATIONS)}.")
    if augment not in AUGMENTATIONS:
        raise ConfigError(f"augment is {augment!r}, expected one of {', '.join(map(repr, AUGMENTATIONS))}.")
