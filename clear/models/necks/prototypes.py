"""SwAV's prototypes, and how a layer is kept from training without its parameters changing their kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from clear.models.necks.projection_mlp import check_sizes
from clear.registry import MODELS

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx


@MODELS.register_module()
class Prototypes(BaseModule):
    """A linear layer without bias, whose rows have unit length: scores are cosines if features have unit norm.

    Training moves the rows off the sphere; `renormalise` puts them back.

    Shape:
        features: (N, in_channels), unit norm   returns: (N, num_prototypes)

    Raises:
        ConfigError: if a size is below 1.
    """

    def __init__(self, in_channels: int, num_prototypes: int, init_cfg: dict | list | None = None):
        super().__init__(init_cfg=init_cfg)
        check_sizes('Prototypes', in_channels=in_channels, num_prototypes=num_prototypes)
        self.weight = nn.Parameter(torch.randn(num_prototypes, in_channels))
        self.renormalise()

    def forward(self, features: Tensor, *, is_held: bool = False) -> Tensor:
        """Scores; `is_held` gives the prototypes a gradient of zero."""
        return F.linear(features, hold(self.weight) if is_held else self.weight)

    @torch.no_grad()
    def renormalise(self) -> None:
        self.weight.copy_(F.normalize(self.weight, dim=1))

    def extra_repr(self) -> str:
        return f'in_channels={self.weight.shape[1]}, num_prototypes={self.weight.shape[0]}'


def hold(weight: Tensor) -> Tensor:
    """The same values; the gradient that reaches `weight` through the result is exactly zero.

    Parameters that switch `requires_grad` would leave optimisers and DistributedDataParallel with a set of
    parameters that is no longer the one they were built for. What an optimiser does on its own (weight decay) still
    happens: it scales the rows, which are normalised wherever this is used.
    """
    return _Hold.apply(weight)


class _Hold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor) -> Tensor:
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        return torch.zeros_like(gradient)
