"""DINO's projector: a network down to a sphere, and directions on it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from clear.models.necks.projection_mlp import ProjectionMLP, check_sizes
from clear.models.necks.prototypes import hold
from clear.registry import MODELS


@MODELS.register_module()
class DINOHead(BaseModule):
    """`num_layers` linear layers with GELU, unit norm, and a weight-normalised linear layer (DINO, Caron et al. 2021,
    arXiv:2104.14294, appendix C).

    The length of every row of the last layer is one, or learnt in `last_scale`. Its stored length never matters.

    Args:
        in_channels: width of the features.
        out_channels: number of directions.
        hidden_channels, bottleneck_channels: widths of the network and of what it ends in.
        num_layers: linear layers before the last one, >= 1.
        norm: BatchNorm after each of them but the last; the paper uses it with convolutional networks.
        norm_last_layer: keep the rows at length one. False lets them learn it, which can be unstable.
        init_cfg: as for every mmengine module; without one, weights are drawn from N(0, 0.02), cut at 2.

    Shape:
        features: (N, in_channels)   returns: (N, out_channels)

    Raises:
        ConfigError: if a size is below 1.
    """

    def __init__(self, in_channels: int, out_channels: int = 65536, hidden_channels: int = 2048,
                 bottleneck_channels: int = 256, num_layers: int = 3, *, norm: bool = False,
                 norm_last_layer: bool = True, init_cfg: dict | list | None = None):
        super().__init__(init_cfg=init_cfg)
        check_sizes('DINOHead', out_channels=out_channels)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.mlp = ProjectionMLP(in_channels, bottleneck_channels, hidden_channels, num_layers, norm=norm,
                                 activation='gelu')
        for module in self.mlp.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        # Rows of the length that a linear layer's have, for the sake of optimisers that look at lengths.
        bound = bottleneck_channels**-0.5
        self.last_layer = nn.Parameter(torch.empty(out_channels, bottleneck_channels).uniform_(-bound, bound))
        self.last_scale = None if norm_last_layer else nn.Parameter(torch.ones(out_channels, 1))

    def forward(self, features: Tensor, *, is_held: bool = False) -> Tensor:
        """Scores of all directions; `is_held` gives the last layer a gradient of zero."""
        # At least float32: lengths in half precision would cost digits before a softmax of temperature 0.04.
        hidden = self.mlp(features)
        hidden = F.normalize(hidden.to(torch.promote_types(hidden.dtype, torch.float32)), dim=1)
        weight = F.normalize(self.last_layer, dim=1)
        weight = weight if self.last_scale is None else self.last_scale * weight
        return F.linear(hidden, hold(weight) if is_held else weight)
