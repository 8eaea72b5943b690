"""Images with targets for pixels, one by one and in batches: every random choice follows from (seed, epoch, sample)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clear.core.checks import check_number
from clear.core.errors import ConfigError, DataError
from clear.core.seeding import derive_seed
from clear.datasets.clips import clip_length
from clear.datasets.dense.colours import apply_colours, draw_colours
from clear.datasets.dense.geometry import cut_target, mirror_target, pad_target, resize_target
from clear.datasets.dense.recipe import DenseRecipe
from clear.datasets.dense.targets import VOID, DenseTable, Target
from clear.datasets.images.decode import MAX_PIXELS, UnreadableImage
from clear.datasets.images.resize import resize_image
from clear.datasets.transforms.multi_crop import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]  # top, left, height, width
_TARGET_MEAN, _TARGET_STD = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))


class Normalisation(Protocol):
    """What an encoder's `preprocess` says of pixel values. Its sizes are not used: a recipe has its own."""

    mean: Sequence[float]
    std: Sequence[float]
    channel_order: str


@dataclass(frozen=True, eq=False)
class DenseSample:
    """One image, or the frames of a clip, with a target.

    Attributes:
        images: (3, H, W) float32 normalised, of a clip (S, 3, H, W).
        values: by kind of target: classes and mask (H, W) uint8; depth, edges and luminance (1, H, W) float32; flow
            (2, H, W) float32, u and v in pixels of this H and W; image (3, H, W) float32 RGB as it is before the hole,
            normalised by ImageNet's mean and deviation whatever the encoder takes, so that errors of encoders compare.
            H and W are those of the input, or with `target_at='original'` those of the file.
        valid: (H, W) bool, pixels that count; the others hold 0, or 255 of classes, whatever the file has there.
        row: of the table; of a clip the first.
        original_size: (height, width) of the file.
    """

    images: Tensor
    values: Tensor
    valid: Tensor
    row: int
    original_size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class DenseBatch:
    """Samples of one size.

    Attributes:
        images: (B, 3, H, W), of clips (B, S, 3, H, W); values: (B, ...) and valid: (B, H, W), as of `DenseSample`.
        rows: (B,) int64; sizes: (B, 2) int64, height and width of the files.
    """

    images: Tensor
    values: Tensor
    valid: Tensor
    rows: Tensor
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.rows)


class DenseSamples:
    """The images and targets of a table as an encoder gets them.

    A clip, such as the two frames of a flow, is one sample: the row of its first frame stands for it. Resizing, mirror,
    crop and colours are drawn once for all frames and the target.

    In training another sample of the same epoch stands in for an image that cannot be read, at random but the same in
    every run; in evaluation it is left out. Both are counted in `bad`.

    Args:
        recipe: in evaluation, what it does without anything random.
        preprocess: of the encoder: mean, std and channel order.
        train: whether samples are drawn.
        seed: with the epoch and the id of a sample it decides what is drawn, in whatever order and by whatever worker.
        max_bad_fraction: share of the rows of `batches` that may be unreadable.
        targets_only: open no image where a target is not the image itself; `images` of samples are then empty. For
            maps that are stored.

    Attributes:
        frames: S, how many images make a sample.
        rows: (N,) int64 rows that stand for a sample.
        bad: {row: reason} of samples that could not be read so far.

    Raises:
        ConfigError: for a wrong recipe, or one for training that leaves targets at another size than images; for
            targets alone of a recipe that moves them at random.
        DataError: if clips are incomplete.
    """

    def __init__(self, table: DenseTable, recipe: DenseRecipe | dict | None, preprocess: Normalisation, *, train: bool,
                 seed: int = 0, max_bad_fraction: float = 0.01, targets_only: bool = False):
        recipe = DenseRecipe.of(recipe)
        self.table, self.preprocess, self.train, self.seed = table, preprocess, train, seed
        self.targets_only = targets_only
        self.recipe = recipe if train else recipe.for_eval()
        self.max_bad_fraction = check_number('max_bad_fraction', max_bad_fraction, 0, 1)
        if train and recipe.target_at != 'input':
            raise ConfigError("recipe.target_at='original' is for evaluation; training compares at the input's size.")
        if self.recipe.crop_classes is not None and table.target_kind not in ('classes', 'mask'):
            raise ConfigError(f"recipe.crop_classes counts classes; targets are of kind '{table.target_kind}'.")
        if targets_only and self.recipe.is_random:
            raise ConfigError('Targets alone cannot be moved at random: their images are stored as they are.')
        self.frames = clip_length(table)
        self.rows = np.arange(0, len(table), self.frames)
        self.bad: dict[int, str] = {}
        order = -1 if preprocess.channel_order == 'BGR' else 1
        self._channels = order
        self._mean, self._std = (torch.tensor(values[::order], dtype=torch.float32).view(3, 1, 1)
                                 for values in (preprocess.mean, preprocess.std))

    def __len__(self) -> int:
        return len(self.rows)

    def sample(self, row: int, epoch: int = 0) -> DenseSample:
        """The sample of a row, as it is in an epoch.

        Raises:
            UnreadableImage: if a frame cannot be read, or would become too large.
            ConfigError: if the hole of the recipe ends outside the image.
            DataError: if the target cannot be read or has another size than its image, or frames have several sizes.
        """
        images, target = self._read(row)
        draws = random.Random(derive_seed(self.seed, 'dense', epoch, self.table.text('id', row)))
        original_size = images[0].shape[:2] if images else target.valid.shape
        images, target = self._moved(images, target, original_size, draws)
        pixels, target = self._finished(images, target, draws) if images else (torch.empty(self.frames, 0), target)
        kind = self.table.target_kind
        values = image_target(pixels[0]) if kind == 'image' else _as_tensor(target, kind)
        pixels = self._with_hole(self._normalised(pixels)) if images else pixels
        valid = torch.from_numpy(np.ascontiguousarray(target.valid))
        return DenseSample(pixels if self.frames > 1 else pixels[0], values, valid, int(row), tuple(original_size))

    def prepared(self, image: Image) -> Tensor:
        """(3, H, W) of an image alone: what it is in a sample where the recipe has nothing random."""
        pixels = np.array(image)
        pixels = resize_image(pixels, *self.recipe.size_of(*pixels.shape[:2]), self.recipe.interpolation, fast=False)
        return self._with_hole(self._normalised(torch.from_numpy(pixels[None]).permute(0, 3, 1, 2).float()))[0]

    def _read(self, row: int) -> tuple[list[np.ndarray], Target]:
        if self.targets_only and self.table.target_kind != 'image':
            return [], self.table.read_target(row)
        images = [np.asarray(self.table.open_image(row + frame)) for frame in range(self.frames)]
        name = self.table.text('path', row)
        for frame, image in enumerate(images):
            if image.shape != images[0].shape:
                raise DataError(f"{self.table.root}: '{self.table.text('path', row + frame)}' has {_size(image)} pixels"
                                f", '{name}' of the same clip {_size(images[0])}.")
        if self.table.target_kind == 'image':
            return images, Target(images[0], np.ones(images[0].shape[:2], bool))
        return images, self.table.read_target(row, images[0].shape[:2])

    def _moved(self, images: list[np.ndarray], target: Target, size: tuple[int, int], draws: random.Random
               ) -> tuple[list[np.ndarray], Target]:
        """Resized, mirrored and cut, with one draw for all."""
        recipe, kind = self.recipe, self.table.target_kind
        factor, is_mirrored = draws.uniform(*(recipe.scale or (1.0, 1.0))), draws.random() < recipe.mirror
        height, width = recipe.size_of(*size, factor)
        if height * width > MAX_PIXELS:
            raise UnreadableImage(f'{size[1]} x {size[0]} pixels would become {width} x {height}, more than '
                                  f'{MAX_PIXELS}')
        images = [resize_image(image, height, width, recipe.interpolation, fast=False) for image in images]
        if kind == 'image':
            target = Target(images[0], np.ones((height, width), bool))
        elif recipe.target_at == 'input':
            target = resize_target(target, kind, height, width)
        if is_mirrored:
            images, target = [image[:, ::-1] for image in images], mirror_target(target, kind)
        if recipe.crop is not None:
            box = self._box(target, draws)
            top, left, height, width = box
            images = [image[top:top + height, left:left + width] for image in images]
            target = cut_target(target, box)
        return images, target

    def _box(self, target: Target, draws: random.Random) -> Box:
        """A random part of the size of the crop, or as much of it as there is."""
        height, width = target.valid.shape
        sides = [min(side, length) for side, length in zip(self.recipe.crop, (height, width))]
        asked = self.recipe.crop_classes or dict(least=0, tries=1)
        for _ in range(asked['tries']):
            box = (draws.randint(0, height - sides[0]), draws.randint(0, width - sides[1]), *sides)
            part = cut_target(target, box)
            if not asked['least'] or len(np.unique(part.values[part.valid])) >= asked['least']:
                break
        return box

    def _finished(self, images: list[np.ndarray], target: Target, draws: random.Random) -> tuple[Tensor, Target]:
        """Colours, then black below and to the right where the crop is larger: (S, 3, H, W) levels 0 ... 255."""
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().contiguous()
        # Black that is added must stay black, and has no part in the mean luminance.
        pixels = apply_colours(pixels, *draw_colours(self.recipe.jitter, self.recipe.gray, draws))
        if self.recipe.crop is not None:
            height, width = self.recipe.crop
            padding = (0, width - pixels.shape[3], 0, height - pixels.shape[2])
            pixels = torch.nn.functional.pad(pixels, padding)
            target = pad_target(target, self.table.target_kind, height, width)
        return pixels, target

    def _normalised(self, pixels: Tensor) -> Tensor:
        if self._channels < 0:
            pixels = pixels.flip(1)
        return pixels.contiguous().div_(255).sub_(self._mean).div_(self._std)

    def _with_hole(self, pixels: Tensor) -> Tensor:
        if self.recipe.hole is not None:
            self.recipe.check_hole(*pixels.shape[2:])
            hole = slice(*self.recipe.hole)
            pixels[:, :, hole, hole] = 0
        return pixels


def batches(samples: DenseSamples, rows: Sequence[int] | np.ndarray, epoch: int, batch_size: int,
            num_workers: int = 0, *, start: int = 0) -> Iterator[DenseBatch]:
    """The samples of `rows`, in their order, `batch_size` at a time; the last batch may be smaller.

    In evaluation, samples of different sizes that would be in one batch come in one for each size.

    Args:
        start: how many batches to leave out at the beginning, as where training was stopped.

    Raises:
        DataError: if more than `max_bad_fraction` of the rows, or all, cannot be read; for sizes that differ in a
            batch of training; and as `DenseSamples.sample`.
    """
    rows = np.asarray(rows, np.int64)
    places = range(start * batch_size, len(rows))
    # A generator of its own: a loader draws a seed for its workers, which nothing here uses, from the global one.
    loader = DataLoader(_Epoch(samples, rows, epoch), batch_size, sampler=places, num_workers=num_workers,
                        collate_fn=_Collate(), generator=torch.Generator())
    bad: dict[int, str] = {}
    for parts, found in loader:
        bad |= found
        samples.bad |= found
        _check_bad(samples, rows, bad)
        if samples.train and len(parts) > 1:
            sizes = ' and '.join(f'{part.images.shape[-1]} x {part.images.shape[-2]}' for part in parts[:2])
            raise DataError(f'{samples.table.root}: images of {sizes} pixels are in one batch. Give the recipe a '
                            '`size` or a `crop`.')
        yield from parts


def _check_bad(samples: DenseSamples, rows: np.ndarray, bad: dict[int, str]) -> None:
    if len(bad) > samples.max_bad_fraction * len(rows) or len(bad) == len(rows) > 0:
        row, reason = next(iter(bad.items()))
        raise DataError(f'{samples.table.root}: {len(bad)} of {len(rows)} samples cannot be read '
                        f'({len(bad) / len(rows):.1%}), more than max_bad_fraction = {samples.max_bad_fraction:.1%}. '
                        f"First: '{samples.table.text('path', row)}', {reason}.")


class _Epoch(Dataset):
    """`dataset[place]` is the sample there, or None, and {row: reason} of what could not be read on the way."""

    def __init__(self, samples: DenseSamples, rows: np.ndarray, epoch: int):
        self.samples, self.rows, self.epoch = samples, rows, epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[DenseSample | None, dict[int, str]]:
        bad: dict[int, str] = {}
        for row in self._candidates(int(self.rows[place])):
            try:
                return self.samples.sample(row, self.epoch), bad
            except UnreadableImage as error:
                bad[row] = str(error)
        return None, bad

    def _candidates(self, row: int) -> Iterator[int]:
        yield row
        if self.samples.train:
            seed = derive_seed(self.samples.seed, 'stand-in', self.epoch, self.samples.table.text('id', row))
            yield from np.random.default_rng(seed).permutation(self.rows[self.rows != row]).tolist()


class _Collate:
    def __call__(self, found: list[tuple[DenseSample | None, dict[int, str]]]
                 ) -> tuple[list[DenseBatch], dict[int, str]]:
        bad: dict[int, str] = {}
        by_size: dict[tuple, list[DenseSample]] = {}
        for sample, reasons in found:
            bad |= reasons
            if sample is not None:
                by_size.setdefault((sample.images.shape, sample.valid.shape), []).append(sample)
        return [_joined(samples) for samples in by_size.values()], bad


def _joined(samples: list[DenseSample]) -> DenseBatch:
    tensors = (torch.stack([getattr(each, name) for each in samples]) for name in ('images', 'values', 'valid'))
    return DenseBatch(*tensors, torch.tensor([each.row for each in samples]),
                      torch.tensor([each.original_size for each in samples]))


def image_target(levels: Tensor) -> Tensor:
    """What an image is as a target, (3, H, W) of levels 0 ... 255; see `DenseSample`."""
    return (levels / 255 - _TARGET_MEAN) / _TARGET_STD


def levels_of_target(values: Tensor) -> Tensor:
    """The way back."""
    return (values * _TARGET_STD + _TARGET_MEAN) * 255


def _as_tensor(target: Target, kind: str) -> Tensor:
    valid = target.valid[..., None] if kind == 'flow' else target.valid
    tensor = torch.from_numpy(np.where(valid, target.values, VOID if kind == 'classes' else 0))
    if kind in ('classes', 'mask'):
        return tensor.to(torch.uint8)
    return tensor.float().permute(2, 0, 1).contiguous() if kind == 'flow' else tensor.float()[None]


def _size(image: np.ndarray) -> str:
    return f'{image.shape[1]} x {image.shape[0]}'
