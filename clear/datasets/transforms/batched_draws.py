"""Random numbers of many images at once, each image's from a seed of its own.

An image's numbers depend on its seed, the view and their place in line, not on the batch it is in. They come from
hashing a counter, so a whole batch costs a few NumPy calls in place of a generator per image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clear.datasets.loaders.buckets import SampleContext
from clear.datasets.transforms.clsa_augment import MAGNITUDES, OPERATIONS
from clear.datasets.transforms.view_recipes import View

# The constants of SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195).
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
# RandomResizedCrop gives up after this many boxes that do not fit.
_CROP_TRIES = 10


def sample_seeds(context: SampleContext, ids: Sequence[str]) -> Tensor:
    """(B,) int64: one seed per sample from (seed, experience, epoch, sample id), for `BatchedMultiCrop`."""
    return torch.tensor([context.seed_of('augment', str(each)) for each in ids], dtype=torch.int64)


class Draws:
    """Uniform numbers per image, in the order they are asked for.

    Args:
        seeds: (B,) int64, one per image.
        stream: separates uses of the same seeds, e.g. the index of the view.
    """

    def __init__(self, seeds: Tensor, stream: int):
        start = np.uint64(int(_STEP) * (stream + 1) % 2**64)
        self._states = _mixed(seeds.cpu().numpy().astype(np.uint64) + start)
        self._position = 0

    def __len__(self) -> int:
        return len(self._states)

    def uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """(B, count) float64 in [low, high)."""
        places = np.arange(self._position + 1, self._position + count + 1, dtype=np.uint64)
        self._position += count
        bits = _mixed(self._states[:, None] + places * _STEP) >> np.uint64(11)  # 53 bits, as many as a double holds
        return low + bits.astype(np.float64) * 2.0**-53 * (high - low)

    def happens(self, probability: float) -> np.ndarray:
        """(B,) bool, True with this probability."""
        return self.uniform(1)[:, 0] < probability

    def integers(self, count: int, low: int, high: int) -> np.ndarray:
        """(B, count) int64 in low ... high - 1."""
        return low + (self.uniform(count) * (high - low)).astype(np.int64)


def _mixed(bits: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64; uint64 wraps around by design."""
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX[0]
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX[1]
    return bits ^ (bits >> np.uint64(31))


@dataclass
class ViewDraws:
    """What one view draws for B images; arrays of length B unless said otherwise.

    Args:
        boxes: (B, 4) int64, top, left, height, width.
        flip, grey, solarize: bool.
        jitter_order: (B, 4), in which turn brightness (0), contrast (1), saturation (2), hue (3) are applied; -1
            where colours stay. factors: (B, 4), hue as a shift in [-0.5, 0.5].
        sigma: of the blur, 0 where there is none.
        operations: (B, K) indices into `OPERATIONS`, -1 where none is applied. values: (B, K), with sign.
    """

    boxes: np.ndarray
    flip: np.ndarray
    jitter_order: np.ndarray
    factors: np.ndarray
    grey: np.ndarray
    sigma: np.ndarray
    solarize: np.ndarray
    operations: np.ndarray
    values: np.ndarray

    def __getitem__(self, rows: slice) -> ViewDraws:
        return ViewDraws(**{name: array[rows] for name, array in vars(self).items()})


def draw_view(view: View, draws: Draws, height: int, width: int) -> ViewDraws:
    """All numbers of one view of images of `height` x `width`, with the distributions of `MultiCrop`."""
    boxes = draw_boxes(view, draws, height, width)
    flip = draws.happens(view.flip_prob)
    order = draws.uniform(4).argsort(1)
    order[~draws.happens(view.jitter_prob)] = -1
    grey, solarize = draws.happens(view.grayscale_prob), draws.happens(view.solarize_prob)
    has_blur = draws.happens(view.blur_prob)
    sigma = np.where(has_blur, draws.uniform(1, *view.blur_sigma)[:, 0], 0.0)
    operations, values = draw_operations(view, draws)
    return ViewDraws(boxes, flip, order, _draw_factors(view, draws), grey, sigma, solarize, operations, values)


def draw_boxes(view: View, draws: Draws, height: int, width: int) -> np.ndarray:
    """(B, 4): the first of ten random boxes that fits, else the largest of allowed aspect in the middle."""
    area = height * width * draws.uniform(_CROP_TRIES, *view.scale)
    ratio = np.exp(draws.uniform(_CROP_TRIES, math.log(view.ratio[0]), math.log(view.ratio[1])))
    widths, heights = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.argmax(1)[:, None]
    widths = np.take_along_axis(widths, first, 1)[:, 0].astype(np.int64)
    heights = np.take_along_axis(heights, first, 1)[:, 0].astype(np.int64)
    place = draws.uniform(2)
    tops = (place[:, 0] * (height - heights + 1)).astype(np.int64)
    lefts = (place[:, 1] * (width - widths + 1)).astype(np.int64)
    boxes = np.stack([tops, lefts, heights, widths], 1)
    boxes[~fits.any(1)] = _middle_box(view, height, width)
    return boxes


def _middle_box(view: View, height: int, width: int) -> tuple[int, int, int, int]:
    part_width = max(1, min(width, round(height * view.ratio[1])))
    part_height = max(1, min(height, round(width / view.ratio[0])))
    return (height - part_height) // 2, (width - part_width) // 2, part_height, part_width


def _draw_factors(view: View, draws: Draws) -> np.ndarray:
    low = [max(0.0, 1 - strength) for strength in view.jitter[:3]] + [-view.jitter[3]]
    high = [1 + strength for strength in view.jitter[:3]] + [view.jitter[3]]
    return np.array(low) + draws.uniform(4) * (np.array(high) - np.array(low))


def draw_operations(view: View, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Strong operations and their signed values, (B, K) each."""
    count = view.strong_ops
    operations = draws.integers(count, 0, len(OPERATIONS))
    levels = draws.integers(count, 1, view.strong_max_level)
    is_applied, is_negative = draws.uniform(count) < view.strong_prob, draws.uniform(count) < 0.5
    table = np.array([[0.0 if magnitude is None else magnitude.value(level) for level in range(view.strong_max_level)]
                      for magnitude in MAGNITUDES.values()])
    has_sign = np.array([magnitude is not None and magnitude.has_sign for magnitude in MAGNITUDES.values()])
    values = table[operations, levels]
    values = np.where(has_sign[operations] & is_negative, -values, values)
    return np.where(is_applied, operations, -1), values
