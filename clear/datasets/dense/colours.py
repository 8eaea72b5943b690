"""Random colours of a few images that belong together: the same for all of them, with PIL's pixels."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from clear.datasets.transforms.batched_colour import JITTER, grayscale


def draw_colours(jitter: Sequence[float] | None, gray: float, draws: random.Random
                 ) -> tuple[list[int], list[float], bool]:
    """In which order brightness (0), contrast (1), saturation (2) and hue (3) change, by how much each, and whether
    grey follows; distributed as those of torchvision's ColorJitter and RandomGrayscale.
    """
    strengths = jitter or (0.0,) * len(JITTER)
    order = list(range(len(JITTER)))
    draws.shuffle(order)
    factors = [draws.uniform(max(0.0, 1 - strength), 1 + strength) for strength in strengths[:3]]
    factors.append(draws.uniform(-strengths[3], strengths[3]))
    return [kind for kind in order if strengths[kind]], factors, draws.random() < gray


def apply_colours(images: Tensor, order: Sequence[int], factors: Sequence[float], is_gray: bool) -> Tensor:
    """(S, 3, H, W) float32 of whole numbers in 0 ... 255, RGB, to the same."""
    for kind in order:
        images = JITTER[kind](images, torch.full((len(images),), factors[kind]))
    return grayscale(images).contiguous() if is_gray else images
