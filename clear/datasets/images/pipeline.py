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

from clear.core.checks import check_choice, check_whole
from clear.core.errors import ConfigError
from clear.datasets.images.reader import ImageReader
from clear.datasets.images.resize import ResizedDecoder, centre_crop_into
from clear.datasets.loaders.buckets import SampleContext

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
        interpolation: of every resize; see `ResizedDecoder`.
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
        _check_options(resize, crop, mean, std, augment)
        self.paths = [str(path) for path in paths]
        self.crop = crop
        self.augment = augment
        self.context = context or SampleContext()
        self._resize = ResizedDecoder(resize, interpolation, decoder)
        kept = self._resize if augment is None or cache is not None else _FullDecoder(self._resize)
        self._reader = ImageReader(root, self.paths, kept, cache=cache, cache_dir=cache_dir)
        self._table = _normalisation_table(mean, std)
        self._crops = np.empty((0, crop, crop, 3), np.uint8)
        self._images = torch.empty(0, 3, crop, crop)

    @property
    def decoder(self) -> str:
        return self._resize.decode.name

    @property
    def fallbacks(self) -> dict[str, int]:
        return dict(self._resize.decode.fallbacks)

    @property
    def bad(self) -> dict[int, str]:
        return self._reader.bad

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return (f'ImagePipeline({len(self)} images, resize={self._resize.size}, crop={self.crop}, '
                f'decoder={self.decoder!r}, cache={self._reader.cache!r}, augment={self.augment!r})')

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

    def _crop_into(self, out: np.ndarray, row: int) -> bool:
        """Write the crop of one image; False, and `out` as it was, for an image that cannot be read."""
        image = self._reader.find(row)
        if image is None:
            return False
        if self.augment is None:
            centre_crop_into(out, image)
            return True
        draws = random.Random(self.context.seed_of('augment', self.paths[row]))
        size = self._resize.size_of(image)
        part = cut_box(image, size, random_box(*size, draws))
        part = self._resize.resized(part, self.crop, self.crop)
        if draws.random() < 0.5:
            import cv2

            cv2.flip(part, 1, dst=out)
        else:
            out[:] = part
        return True


class _FullDecoder:
    """A file's image in full, of which a part will be resized; what `resize` refuses is refused here, too."""

    shape = None

    def __init__(self, resize: ResizedDecoder):
        self.settings = resize.settings
        self._resize = resize

    def __call__(self, content: bytes) -> np.ndarray:
        image = self._resize.decode(content)
        self._resize.size_of(image)
        return image


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


def _check_options(resize: int | None, crop: int, mean: Sequence[float], std: Sequence[float], augment: str | None
                   ) -> None:
    if resize is not None:
        check_whole('resize', resize, 1)
    check_whole('crop', crop, 1)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ConfigError(f'mean is {mean} and std {std}; expected three numbers each, std above 0.')
    check_choice('augment', augment, AUGMENTATIONS)
