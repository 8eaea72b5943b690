"""Predictions for pixels of a large image from windows that slide over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from clear.core.checks import check_whole
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError
from clear.evaluation.heads.pixelwise import resized

if TYPE_CHECKING:
    from clear.core.types import Options

Predict = Callable[[Tensor, tuple[int, int]], Tensor]


@dataclass(frozen=True)
class SlidingWindows:
    """Every pixel's prediction is the mean over the windows that it is in, of what the head gives before any arg-max,
    as in mmsegmentation and DINOv2's evaluation.

    Windows start every `stride` pixels. The last of a row or column is moved inward so that it ends where the image
    does: all have one size. An image that is smaller than a window in a direction has one window there, of its size.

    Args:
        window, stride: (height, width), or one number for both.

    Raises:
        ConfigError: for other values, or a stride that leaves pixels out.
    """

    window: tuple[int, int]
    stride: tuple[int, int]

    def __post_init__(self):
        for name in ('window', 'stride'):
            object.__setattr__(self, name, _pair(f'inference.{name}', getattr(self, name)))
        if any(stride > length for stride, length in zip(self.stride, self.window)):
            raise ConfigError(f'inference.stride {self.stride} is larger than inference.window {self.window}: pixels '
                              'between two windows would have no prediction.')

    @classmethod
    def of(cls, cfg: Options) -> Self:
        """From the dict of a config.

        Raises:
            ConfigError: for missing or unknown keys too.
        """
        if not isinstance(cfg, Mapping) or {'window', 'stride'} - {*cfg}:
            raise ConfigError(f"inference is {cfg!r}; expected 'whole' or dict(window=512, stride=341).")
        check_keys('inference', cfg, {'window', 'stride'}, 'it')
        return cls(**cfg)

    def places(self, height: int, width: int) -> list[tuple[int, int]]:
        """(top, left) of the windows over an image, row by row.

        Example:
            >>> SlidingWindows(4, 3).places(4, 9)
            [(0, 0), (0, 3), (0, 5)]
        """
        rows, columns = (_starts(length, *each) for length, each in zip((height, width),
                                                                        zip(self.window, self.stride)))
        return [(top, left) for top in rows for left in columns]

    def predict(self, predict: Predict, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Predictions (N, O, H, W) for images (N, 3, H, W), or clips (N, S, 3, H, W).

        Args:
            predict: (windows, (height, width)) -> (N, O, height, width).
            size: bilinear to this size in the end; None = of the images.
        """
        height, width = images.shape[-2:]
        window = min(self.window[0], height), min(self.window[1], width)
        total, count = None, torch.zeros(height, width, device=images.device)
        for top, left in self.places(height, width):
            rows, columns = slice(top, top + window[0]), slice(left, left + window[1])
            found = predict(images[..., rows, columns], window)
            if total is None:
                total = found.new_zeros(*found.shape[:2], height, width, dtype=torch.float32)
            total[..., rows, columns] += found
            count[rows, columns] += 1
        return resized(total / count, size or (height, width))


def _starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows start that cover `length`."""
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def _pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    values = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    if len(values) != 2:
        raise ConfigError(f'{name} is {value!r}; expected (height, width), or one whole number.')
    return check_whole(name, values[0], 1), check_whole(name, values[1], 1)
