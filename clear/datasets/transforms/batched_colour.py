"""Colour operations on many images at once, each with its own strength; pixel by pixel what PIL computes.

Images are float32 (B, 3, H, W) of whole numbers in 0 ... 255, as PIL's bytes are: each operation rounds as PIL does, so
results differ from PIL's at most by the last bit of a float. Arguments are (B,).
"""

from __future__ import annotations

import torch
from torch import Tensor


def luminance(images: Tensor) -> Tensor:
    """(B, 1, H, W): ITU-R 601 in PIL's integer arithmetic, which float32 holds exactly (below 2^24)."""
    red, green, blue = images.unbind(1)
    grey = (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471)
    return grey.add_(32768).mul_(1 / 65536).floor_().unsqueeze(1)


def grayscale(images: Tensor) -> Tensor:
    return luminance(images).expand_as(images)


def blend(base: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """`base + factor * (images - base)`, cut to 0 ... 255 and truncated as PIL does."""
    return (images - base).mul_(factors.view(-1, 1, 1, 1)).add_(base).clamp_(0, 255).floor_()


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Towards black."""
    return (images * factors.view(-1, 1, 1, 1)).clamp_(max=255).floor_()


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Towards the mean luminance, a whole number."""
    mean = luminance(images).mean((2, 3), keepdim=True).add_(0.5).floor_()
    return blend(mean, images, factors)


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Towards grey."""
    return blend(luminance(images), images, factors)


def adjust_hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Turn the hue by shifts in [-0.5, 0.5] of a full turn, through PIL's HSV of three bytes."""
    red, green, blue = images.unbind(1)
    largest = torch.maximum(torch.maximum(red, green), blue)
    spread = largest - torch.minimum(torch.minimum(red, green), blue)
    is_red = 1 - at_least(largest - red, 1)
    is_green = (1 - at_least(largest - green, 1)).mul_(1 - is_red)
    is_blue = (1 - is_red).sub_(is_green)
    hue = (green - blue).mul_(is_red).addcmul_(blue - red, is_green).addcmul_(red - green, is_blue)
    hue.div_(spread.clamp(min=1)).add_(is_green, alpha=2).add_(is_blue, alpha=4)
    hue.div_(6).add_(1).frac_().mul_(255).floor_()
    saturation = (spread / largest.clamp(min=1)).mul_(255).floor_()
    hue.add_((shifts * 255).trunc_().remainder_(256).view(-1, 1, 1))
    turn = hue.sub_(at_least(hue, 256), alpha=256).mul_(6 / 255)
    depth = saturation.mul_(1 / 255).mul_(largest)
    # How far each channel is below the largest, as a share of the depth: PIL's six cases in one line each. Grey
    # pixels have no depth and so stay what they are.
    shares = (2 - (turn - 3).abs_(), (turn - 2).abs_().sub_(1), (turn - 4).abs_().sub_(1))
    out = torch.empty_like(images)
    for channel, share in enumerate(shares):
        torch.sub(largest, share.clamp_(0, 1).mul_(depth), out=out[:, channel])
    return out.add_(0.5).floor_()


def solarize(images: Tensor, thresholds: Tensor | float) -> Tensor:
    """Invert values of the threshold and above; thresholds are whole numbers."""
    limit = thresholds.view(-1, 1, 1, 1) if isinstance(thresholds, Tensor) else thresholds
    return at_least(images, limit).mul_(255 - 2 * images).add_(images)


def at_least(values: Tensor, limit: Tensor | float) -> Tensor:
    """1.0 where whole numbers reach a whole limit, else 0.0; comparisons and `where` take ten times as long on CPUs."""
    return (values - (limit - 1)).clamp_(0, 1)


# In the order of torchvision's ColorJitter.
JITTER = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
