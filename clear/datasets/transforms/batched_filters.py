"""Crop with resize, and blur, of many images at once.

On a GPU both are products with a small matrix per image and axis, on a CPU only the blur: torch resizes bytes there
faster than it multiplies. Weights are those that PIL uses, so the pixels are PIL's up to rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Boxes that PIL runs in turn in place of a Gaussian.
_BLUR_PASSES = 3


def crop_resize(images: Tensor, boxes: Tensor, flip: Tensor, size: int, interpolation: str) -> Tensor:
    """Cut a box from each image, resize it with antialias, and mirror it where `flip` says so.

    Shape:
        images: (B, 3, H, W) uint8   boxes: (B, 4) top, left, height, width   flip: (B,) bool
        returns: (B, 3, size, size) float32, whole numbers in 0 ... 255
    """
    # torch 2.14 cannot resize bytes to a single pixel.
    resize = crop_resize_each if images.device.type == 'cpu' and size > 1 else crop_resize_by_matrices
    return resize(images, boxes, flip, size, interpolation)


def crop_resize_each(images: Tensor, boxes: Tensor, flip: Tensor, size: int, interpolation: str) -> Tensor:
    """`crop_resize` one by one, on a CPU."""
    out = torch.empty(len(images), 3, size, size)
    for image, (top, left, height, width), is_mirrored, into in zip(images, boxes.tolist(), flip.tolist(), out):
        part = image[None, :, top:top + height, left:left + width]
        view = F.interpolate(part, (size, size), mode=interpolation, antialias=True)[0]
        into.copy_(view.flip(2) if is_mirrored else view)
    return out


def crop_resize_by_matrices(images: Tensor, boxes: Tensor, flip: Tensor, size: int, interpolation: str) -> Tensor:
    """`crop_resize` at once, on any device."""
    height, width = images.shape[2:]
    vertical = resize_weights(boxes[:, 0], boxes[:, 2], height, size, torch.zeros_like(flip), interpolation)
    horizontal = resize_weights(boxes[:, 1], boxes[:, 3], width, size, flip, interpolation)
    across = _to_levels(apply_weights(images.float(), horizontal, axis=3))
    return _to_levels(apply_weights(across, vertical, axis=2))


def resize_weights(start: Tensor, length: Tensor, full: int, size: int, flip: Tensor, interpolation: str) -> Tensor:
    """(B, size, full): what each pixel of an axis adds to each pixel of the result, nothing outside the part.

    Args:
        start, length: (B,) the part of the axis that is kept.
    """
    length = length.float()[:, None, None]
    scale = length / size
    reach = scale.clamp(min=1)  # Wider than a pixel only where the image shrinks: this is the antialias.
    place = torch.arange(size, device=start.device).float()
    place = torch.where(flip[:, None], size - 1 - place, place)[:, :, None]  # (B, size, 1)
    pixel = (torch.arange(full, device=start.device)[None] - start[:, None])[:, None]  # (B, 1, full)
    distance = (pixel + 0.5 - (place + 0.5) * scale).abs_().div_(reach)
    weights = (1 - distance).clamp_(min=0) if interpolation == 'bilinear' else _cubic(distance)
    weights.mul_((pixel >= 0) & (pixel < length))
    return weights.div_(weights.sum(2, keepdim=True))


def _cubic(distance: Tensor, a: float = -0.5) -> Tensor:
    """The bicubic kernel with PIL's a (OpenCV and torch have -0.75)."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * a
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


def apply_weights(images: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Multiply each image by its matrix along its height (axis 2) or width (axis 3).

    Shape:
        images: (B, C, H, W)   weights: (B, S, H) or (B, S, W)   returns: (B, C, S, W) or (B, C, H, S)
    """
    num_images, channels, height, width = images.shape
    if axis == 3:
        rows = images.reshape(num_images, channels * height, width)
        return torch.bmm(rows, weights.transpose(1, 2)).view(num_images, channels, height, -1)
    every = weights[:, None].expand(-1, channels, -1, -1).reshape(num_images * channels, -1, height)
    return torch.bmm(every, images.reshape(num_images * channels, height, width)).view(num_images, channels, -1, width)


def gaussian_blur(images: Tensor, sigma: Tensor, max_sigma: float) -> Tensor:
    """PIL's GaussianBlur: three passes of a box of fractional width per axis, edges repeated.

    Args:
        max_sigma: no sigma is larger; said beforehand, so that the device need not be asked.

    Shape:
        images: (B, 3, S, S), whole numbers   sigma: (B,) > 0   returns: as images
    """
    columns = blur_weights(sigma, images.shape[3], max_sigma)
    rows = columns if images.shape[2] == images.shape[3] else blur_weights(sigma, images.shape[2], max_sigma)
    return _to_levels(apply_weights(apply_weights(images, columns, axis=3), rows, axis=2))


def blur_weights(sigma: Tensor, length: int, max_sigma: float) -> Tensor:
    """(B, length, length): three passes of the box along an axis as one matrix."""
    radius = _box_radius(sigma)
    reach = int(_box_radius(torch.tensor(float(max_sigma)))) + 1
    offsets = torch.arange(-reach, reach + 1, device=sigma.device)
    share = (radius[:, None] - offsets.abs() + 1).clamp(0, 1) / (2 * radius[:, None] + 1)  # (B, 2 reach + 1)
    source = (torch.arange(length, device=sigma.device) + offsets[:, None]).clamp(0, length - 1)
    moves = torch.nn.functional.one_hot(source, length).to(share.dtype)  # (2 reach + 1, length, length)
    once = (share @ moves.flatten(1)).view(-1, length, length)
    matrix = once
    for _ in range(_BLUR_PASSES - 1):
        matrix = torch.bmm(matrix, once)
    return matrix


def _box_radius(sigma: Tensor) -> Tensor:
    """Radius of the box whose passes have the variance of the Gaussian (Gwosdek et al. 2011, eq. 7, 11, 14)."""
    variance = sigma.square() / _BLUR_PASSES
    whole = (((12 * variance + 1).sqrt() - 1) / 2).floor()
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1).square()))
    return whole + part


def _to_levels(values: Tensor) -> Tensor:
    """Round to whole numbers in 0 ... 255, in place."""
    return values.add_(0.5).floor_().clamp_(0, 255)  # halves go up, as in PIL
