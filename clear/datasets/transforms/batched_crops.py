"""Random crops and flips of many small images at once, to the pixels that one image at a time gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clear.datasets.transforms.build import DETERMINISTIC, ImageTransform

_FILL = -1  # a row or column that lies outside the image


class BatchedCrops:
    """The random steps of an `ImageTransform` and what follows them, on a batch of uint8 images.

    An image's numbers are drawn by torchvision's own steps from torch's generator, seeded as for the image alone.

    Args:
        steps: `RandomCrop` with black padding, `RandomHorizontalFlip` and `RandomVerticalFlip`, in any order.
        rest: takes whole batches.
    """

    def __init__(self, steps: Sequence[Any], rest: ImageTransform):
        self.steps = list(steps)
        self.rest = rest

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """Transform each image with the draws of its seed.

        Shape:
            images: (B, C, H, W) uint8   returns: (B, C, h, w), what `rest` makes of them
        """
        count, channels, height, width = images.shape
        rows, columns = (torch.arange(size).expand(count, size) for size in (height, width))
        for step, drawn in zip(self.steps, self._drawn((height, width), seeds)):
            if _is_crop(step):
                rows, columns = (_cropped(places, *ends, drawn[:, axis], size) for places, ends, axis, size in zip(
                    (rows, columns), _padding(step, (rows.shape[1], columns.shape[1])), (0, 1), step.size))
            elif type(step).__name__ == 'RandomHorizontalFlip':
                columns = torch.where(drawn[:, None], columns.flip(1), columns)
            else:
                rows = torch.where(drawn[:, None], rows.flip(1), rows)
        shape = len(rows[0]), len(columns[0])
        places = (rows.clamp(min=0) * width)[:, :, None] + columns.clamp(min=0)[:, None]  # (B, h, w)
        index = places.view(count, 1, -1).expand(count, channels, -1)
        found = images.reshape(count, channels, -1).gather(2, index).view(count, channels, *shape)
        outside = (rows == _FILL)[:, :, None] | (columns == _FILL)[:, None]
        return self.rest(found.masked_fill_(outside[:, None], 0))

    def _drawn(self, shape: tuple[int, int], seeds: Sequence[int]) -> list[Tensor]:
        """What every step drew: (B, 2) top and left of a crop, (B,) whether an image is flipped."""
        probes = []
        for step in self.steps:
            probes.append(torch.empty(1, *shape))
            shape = tuple(step.size) if _is_crop(step) else shape
        generator = torch.default_generator
        state, drawn = generator.get_state(), []
        try:
            for seed in seeds:
                generator.manual_seed(seed)
                drawn.append([_draw(step, probe) for step, probe in zip(self.steps, probes)])
        finally:
            generator.set_state(state)
        return [torch.tensor(values) for values in zip(*drawn)]


def batched_crops(transform: object) -> tuple[ImageTransform, BatchedCrops] | None:
    """A transform as what every image goes through once, and what is drawn anew each time; None if it has another form.

    The first half gives PIL images, which do not change from epoch to epoch.
    """
    if not isinstance(transform, ImageTransform) or transform.batch_from >= len(transform.steps):
        return None
    single, rest = transform.halves()
    first = next((place for place, step in enumerate(single.steps) if not _is_fixed(step)), None)
    if first is None or not all(map(_is_supported, single.steps[first:])):
        return None
    return ImageTransform(single.steps[:first], False), BatchedCrops(single.steps[first:], rest)


def _is_fixed(step: object) -> bool:
    return type(step).__module__.startswith('torchvision.') and type(step).__name__ in DETERMINISTIC


def _is_supported(step: object) -> bool:
    from torchvision.transforms import v2

    if type(step) is v2.RandomCrop:
        return step.fill == 0 and step.padding_mode == 'constant'
    return type(step) in (v2.RandomHorizontalFlip, v2.RandomVerticalFlip)


def _is_crop(step: object) -> bool:
    return type(step).__name__ == 'RandomCrop'


def _draw(step: Any, probe: Tensor) -> tuple[int, int] | bool:
    if not _is_crop(step):
        return bool(torch.rand(1) < step.p)
    drawn = step.make_params([probe])
    return drawn['top'], drawn['left']


def _padding(step: Any, shape: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows above and below, columns left and right of an image that a crop adds: none of it is drawn."""
    left, right, top, bottom = step.padding or (0, 0, 0, 0)
    ends = []
    for size, target, (before, after) in zip(shape, step.size, ((top, bottom), (left, right))):
        missing = max(0, target - (size + before + after)) if step.pad_if_needed else 0
        ends.append((before + missing, after + missing))
    return ends[0], ends[1]


def _cropped(places: Tensor, before: int, after: int, starts: Tensor, size: int) -> Tensor:
    """`size` of the padded places of each image, from its start: (B, S) -> (B, size)."""
    padded = F.pad(places, (before, after), value=_FILL)
    return padded.gather(1, starts[:, None] + torch.arange(size))
