"""CLSA's strong operations on many images at once, each with its own argument: what PIL computes, byte by byte but for
rotations, where one value in a thousand is the neighbouring pixel's.

Images are float32 (B, 3, H, W) of whole numbers in 0 ... 255. Arguments are (B,), signed, in the units of
`clsa_augment.apply_operation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from clear.datasets.transforms.batched_colour import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    blend,
    solarize,
)


def apply_operations(images: Tensor, name: str, values: Tensor) -> Tensor:
    """One operation on all images, each with its own value."""
    return _APPLY[name](images, values)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch every channel to 0 ... 255; one of a single value stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    # float64 and this order of steps, because PIL's table has them; torch turns `255 / x` into a reciprocal.
    spread = (high - low).double().clamp(min=1)
    scale = torch.full_like(spread, 255).div_(spread)
    stretched = (images.double() * scale - low.double() * scale).trunc_().clamp_(0, 255).to(images.dtype)
    return torch.where(high > low, stretched, images)


def equalize(images: Tensor) -> Tensor:
    """Flatten the histogram of every channel."""
    num_images, channels, height, width = images.shape
    levels = images.long().view(num_images * channels, height * width)
    counts = levels.new_zeros(len(levels), 256).scatter_add_(1, levels, torch.ones_like(levels))
    # The last level in use does not count for the step, as in PIL.
    last = counts.gather(1, levels.amax(1, keepdim=True))
    step = (height * width - last) // 255
    below = counts.cumsum(1) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    flat = torch.where(step > 0, table.gather(1, levels), levels)
    return flat.view_as(images).to(images.dtype)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of every value."""
    step = torch.exp2(8 - bits).view(-1, 1, 1, 1)
    return (images / step).floor_().mul_(step)


def adjust_sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Towards a smoothed image, whose outermost pixels stay."""
    smooth = images.clone()
    if min(images.shape[2:]) > 2:
        around = F.avg_pool2d(images, 3, 1, divisor_override=1)  # the sum of 3 x 3
        around = around.add_(images[:, :, 1:-1, 1:-1], alpha=4).div_(13)
        smooth[:, :, 1:-1, 1:-1] = around.add_(0.5).floor_()
    return blend(smooth, images, factors)


def affine(images: Tensor, matrices: Tensor) -> Tensor:
    """Each pixel from the nearest one at `matrix @ (x, y, 1)` of the input, black from outside.

    Shape:
        matrices: (B, 2, 3), from pixel centres of the output to those of the input
    """
    num_images, channels, height, width = images.shape
    y, x = torch.meshgrid(torch.arange(height, device=images.device) + 0.5,
                          torch.arange(width, device=images.device) + 0.5, indexing='ij')
    places = torch.stack([x.flatten(), y.flatten(), torch.ones_like(x).flatten()]).to(matrices.dtype)  # (3, H W)
    source = (matrices @ places).floor_().long()  # (B, 2, 3) @ (3, H W) -> (B, 2, H W)
    columns, rows = source.unbind(1)
    is_inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    index = torch.where(is_inside, rows * width + columns, 0)[:, None].expand(-1, channels, -1)
    moved = images.flatten(2).gather(2, index).mul_(is_inside[:, None])
    return moved.view_as(images)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Counter-clockwise, about the middle."""
    angle = degrees.double() * (-math.pi / 180)
    cosine, sine = angle.cos(), angle.sin()
    middle_x, middle_y = images.shape[3] / 2, images.shape[2] / 2
    matrices = torch.stack([cosine, sine, middle_x - cosine * middle_x - sine * middle_y,
                            -sine, cosine, middle_y + sine * middle_x - cosine * middle_y], 1)
    return affine(images, matrices.view(-1, 2, 3))


def _moved(images: Tensor, values: Tensor, place: int) -> Tensor:
    """Affine with one entry of the identity's six changed."""
    matrices = torch.eye(2, 3, dtype=torch.float64, device=images.device).flatten().repeat(len(images), 1)
    matrices[:, place] += values.double()
    return affine(images, matrices.view(-1, 2, 3))


_APPLY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'AutoContrast': lambda images, _: autocontrast(images),
    'Brightness': adjust_brightness,
    'Color': adjust_saturation,
    'Contrast': adjust_contrast,
    'Equalize': lambda images, _: equalize(images),
    'Identity': lambda images, _: images,
    'Posterize': posterize,
    'Rotate': rotate,
    'Sharpness': adjust_sharpness,
    'ShearX': lambda images, shears: _moved(images, shears, 1),
    'ShearY': lambda images, shears: _moved(images, shears, 3),
    'Solarize': lambda images, levels: solarize(images, 256 - levels),
    'TranslateX': lambda images, shares: _moved(images, (shares * images.shape[3]).trunc(), 2),
    'TranslateY': lambda images, shares: _moved(images, (shares * images.shape[2]).trunc(), 5),
}
