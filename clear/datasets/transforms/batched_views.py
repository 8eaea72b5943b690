"""The views of `MultiCrop` for a whole batch of uint8 images at once, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from clear.datasets.transforms.batched_clsa import apply_operations
from clear.datasets.transforms.batched_colour import JITTER, grayscale, solarize
from clear.datasets.transforms.batched_draws import Draws, ViewDraws, draw_view
from clear.datasets.transforms.batched_filters import crop_resize, gaussian_blur
from clear.datasets.transforms.clsa_augment import OPERATIONS
from clear.datasets.transforms.multi_crop import IMAGENET_MEAN, IMAGENET_STD, check_normalisation
from clear.datasets.transforms.view_recipes import View, build_views
from clear.registry import TRANSFORMS

if TYPE_CHECKING:
    from clear.core.types import Options

# Values of input that a CPU works on at a time: more would only take memory, less costs a call per step and chunk.
_CHUNK_VALUES = 2**22


@TRANSFORMS.register_module()
class BatchedMultiCrop:
    """A batch of uint8 images to a list of views, each with parameters of its own for every image.

    The distribution is that of `MultiCrop`, and every operation gives PIL's pixels for the same parameters, up to
    single levels where PIL rounds in between, six of 255 for hues, and a neighbouring pixel in one of a thousand places
    for rotations. What is drawn for an image follows from its seed alone, whatever batch
    it is in (see `sample_seeds`). The numbers are drawn on the CPU; nothing waits for a GPU.

    Small images gain most: decode once, and keep the images at about twice the size of the views. On a GPU resizing
    multiplies with matrices over the whole input; on a CPU it reads the boxes alone, one by one, so the two may differ
    by single levels.

    Args:
        recipe, options, changes: as for `MultiCrop`.
        mean, std: per channel, for values in [0, 1].

    Shape:
        images: (B, 3, H, W) uint8, RGB   seeds: (B,) int64   returns: list of (B, 3, size, size) float32

    Raises:
        ConfigError: if the recipe or a value is wrong.
        TypeError, ValueError: from a call, if images or seeds do not fit.
    """

    is_random = True

    def __init__(self, recipe: str | Sequence[View | Mapping] = 'moco_v2', options: Options | None = None,
                 changes: Options | None = None, mean: Sequence[float] = IMAGENET_MEAN,
                 std: Sequence[float] = IMAGENET_STD):
        check_normalisation(mean, std)
        self.views = build_views(recipe, options, changes)
        self._shift = torch.tensor(mean).mul(255).view(1, 3, 1, 1)
        self._scale = torch.tensor(std).mul(255).view(1, 3, 1, 1)

    @torch.no_grad()
    def __call__(self, images: Tensor, seeds: Tensor) -> list[Tensor]:
        views = self.levels(images, seeds)
        shift, scale = self._shift.to(images.device), self._scale.to(images.device)
        return [view.sub_(shift).div_(scale) for view in views]

    @torch.no_grad()
    def levels(self, images: Tensor, seeds: Tensor) -> list[Tensor]:
        """The views before they are normalised: float32 of whole numbers in 0 ... 255."""
        _check_batch(images, seeds)
        height, width = images.shape[2:]
        draws = [draw_view(view, Draws(seeds, index), height, width) for index, view in enumerate(self.views)]
        out = [torch.empty(len(images), 3, view.size, view.size, device=images.device) for view in self.views]
        for rows in _chunks(images):
            for view, drawn, into in zip(self.views, draws, out):
                into[rows] = render_view(images[rows], view, drawn[rows])
        return out

    def __repr__(self) -> str:
        lines = '\n'.join(f'  {view},' for view in self.views)
        return f'BatchedMultiCrop(\n{lines}\n)'


def render_view(images: Tensor, view: View, draws: ViewDraws) -> Tensor:
    """One view of every image, with the given parameters.

    Shape:
        images: (B, 3, H, W) uint8   returns: (B, 3, size, size) float32 of whole numbers in 0 ... 255
    """
    device = images.device
    out = crop_resize(images, _sent(draws.boxes, device), _sent(draws.flip, device), view.size, view.interpolation)
    if view.grayscale_first:
        _apply(out, draws.grey, grayscale)
    for turn in range(4):
        for index, adjust in enumerate(JITTER):
            if view.jitter[index]:
                _apply(out, draws.jitter_order[:, turn] == index, adjust, draws.factors[:, index])
    if not view.grayscale_first:
        _apply(out, draws.grey, grayscale)
    _apply(out, draws.sigma > 0, lambda part, sigma: gaussian_blur(part, sigma, view.blur_sigma[1]), draws.sigma)
    _apply(out, draws.solarize, lambda part: solarize(part, view.solarize_threshold))
    for turn in range(view.strong_ops):
        for index, name in enumerate(OPERATIONS):
            if name != 'Identity':
                _apply(out, draws.operations[:, turn] == index,
                       lambda part, values, name=name: apply_operations(part, name, values), draws.values[:, turn])
    return out


def _chunks(images: Tensor) -> list[slice]:
    size = max(1, _CHUNK_VALUES // images[0].numel()) if images.device.type == 'cpu' and len(images) else len(images)
    return [slice(start, start + size) for start in range(0, len(images), max(1, size))]


def _apply(images: Tensor, chosen: np.ndarray, operation: Callable[..., Tensor], *values: np.ndarray) -> None:
    """Replace the chosen images by what the operation makes of them, each with its own values."""
    [rows] = np.nonzero(chosen)
    if len(rows) == 0:
        return
    arguments = [_sent(each[rows].astype(np.float32), images.device) for each in values]
    if len(rows) == len(images):
        images.copy_(operation(images, *arguments))
        return
    index = _sent(rows, images.device)
    images.index_copy_(0, index, operation(images.index_select(0, index), *arguments).contiguous())


def _sent(values: np.ndarray, device: torch.device) -> Tensor:
    """On the device, without waiting for it."""
    tensor = torch.from_numpy(values)
    return tensor if device.type == 'cpu' else tensor.pin_memory().to(device, non_blocking=True)


def _check_batch(images: Tensor, seeds: Tensor) -> None:
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        found = f'{images.dtype} {tuple(images.shape)}' if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f'BatchedMultiCrop: expected images (B, 3, H, W) of uint8, found {found}. One PIL image is for '
                        'MultiCrop.')
    if seeds.dtype != torch.int64 or seeds.shape != (len(images),):
        raise ValueError(f'BatchedMultiCrop: expected seeds ({len(images)},) of int64, one per image, found '
                         f'{seeds.dtype} {tuple(seeds.shape)}.')
