"""Momentum encoders: a copy of an encoder that follows it by an exponential moving average."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from mmcv.cnn.bricks import DropPath
from torch import nn

from clear.core.errors import ConfigError

Module = TypeVar('Module', bound=nn.Module)


def momentum_copy(encoder: Module) -> Module:
    """A copy that takes no gradient. It stays in train mode: BatchNorm in it uses its own batches and statistics.

    Stochastic depth is for the one that learns: targets keep all of their layers.
    """
    copied = copy.deepcopy(encoder).requires_grad_(False)
    for module in copied.modules():
        if isinstance(module, DropPath):
            module.drop_prob = 0.0
    copied.is_init = True  # mmengine would draw weights of its own for it.
    return copied


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """`target <- momentum * target + (1 - momentum) * source`, parameters only: buffers are the target's own."""
    # One call for all parameters: launching one per parameter costs more than the arithmetic.
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), 1 - momentum)


def cosine_momentum(base: float, share: float) -> float:
    """From `base` at share 0 of the training to 1 at its end, along a half cosine (BYOL, Grill et al. 2020, 3.2)."""
    return 1 - (1 - base) * (math.cos(math.pi * share) + 1) / 2


def check_momentum(owner: object, momentum: float) -> None:
    """Raise ConfigError unless it is a number in [0, 1]."""
    if not 0 <= momentum <= 1:
        raise ConfigError(f'{type(owner).__name__}: momentum is {momentum!r}, expected a number in [0, 1]; it is the '
                          'share of the old weights that is kept, such as 0.999.')
