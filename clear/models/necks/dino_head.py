"""Heads that end on a sphere: DINO's, with directions on it, and ProtoCLIP's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from clear.core.checks import check_whole
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
        out_channels: number of directions; None leaves them out, and the head ends on the sphere.
        hidden_channels, bottleneck_channels: widths of the network and of what it ends in.
        num_layers: linear layers before the last one; 0 is none, then `bottleneck_channels` is `in_channels`.
        norm: BatchNorm after each of them but the last; the paper uses it with convolutional networks.
        norm_last_layer: keep the rows at length one. False lets them learn it, which can be unstable.
        init_cfg: as for every mmengine module; without one, weights are drawn from N(0, 0.02), cut at 2.

    Shape:
        features: (N, in_channels)   returns: (N, out_channels), or (N, bottleneck_channels) of unit norm

    Raises:
        ConfigError: if a size is below 1, or `num_layers` below 0.
    """

    def __init__(self, in_channels: int, out_channels: int | None = 65536, hidden_channels: int = 2048,
                 bottleneck_channels: int = 256, num_layers: int = 3, *, norm: bool = False,
                 norm_last_layer: bool = True, init_cfg: dict | list | None = None):
        super().__init__(init_cfg=init_cfg)
        check_sizes('DINOHead', in_channels=in_channels)
        check_whole('DINOHead: num_layers', num_layers, 0)
        self.in_channels = in_channels
        self.mlp: nn.Module = nn.Identity()
        if num_layers:
            self.mlp = ProjectionMLP(in_channels, bottleneck_channels, hidden_channels, num_layers, norm=norm,
                                     activation='gelu')
        width = bottleneck_channels if num_layers else in_channels
        for module in self.mlp.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.out_channels = width if out_channels is None else out_channels
        self.last_layer = self.last_scale = None
        if out_channels is not None:
            check_sizes('DINOHead', out_channels=out_channels)
            # Rows of the length that a linear layer's have, for the sake of optimisers that look at lengths.
            bound = width**-0.5
            self.last_layer = nn.Parameter(torch.empty(out_channels, width).uniform_(-bound, bound))
            self.last_scale = None if norm_last_layer else nn.Parameter(torch.ones(out_channels, 1))

    def forward(self, features: Tensor, *, is_held: bool = False) -> Tensor:
        """Scores of all directions, or the point on the sphere; `is_held` gives the last layer a gradient of zero."""
        # At least float32: lengths in half precision would cost digits before a softmax of temperature 0.04.
        hidden = self.mlp(features)
        hidden = F.normalize(hidden.to(torch.promote_types(hidden.dtype, torch.float32)), dim=1)
        if self.last_layer is None:
            return hidden
        weight = F.normalize(self.last_layer, dim=1)
        weight = weight if self.last_scale is None else self.last_scale * weight
        return F.linear(hidden, hold(weight) if is_held else weight)


@MODELS.register_module()
class ProtoCLIPHead(BaseModule):
    """`num_layers` times linear layer, BatchNorm and ReLU, a last linear layer, and unit norm (ProtoCLIP, Chen et al.
    2022, arXiv:2206.10996; its published code).

    Args:
        in_channels, out_channels, hidden_channels: widths of input, output and the layers between.
        num_layers: of the layers between; 0 is a single linear layer.
        init_cfg: as for every mmengine module.

    Shape:
        features: (N, in_channels)   returns: (N, out_channels), unit norm

    Raises:
        ConfigError: if a size is below 1, or `num_layers` below 0.
    """

    def __init__(self, in_channels: int, out_channels: int = 128, hidden_channels: int = 2048, num_layers: int = 1, *,
                 init_cfg: dict | list | None = None):
        super().__init__(init_cfg=init_cfg)
        check_whole('ProtoCLIPHead: num_layers', num_layers, 0)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.mlp = ProjectionMLP(in_channels, out_channels, hidden_channels, num_layers + 1, norm=True)

    def forward(self, features: Tensor) -> Tensor:
        projected = self.mlp(features)
        return F.normalize(projected.to(torch.promote_types(projected.dtype, torch.float32)), dim=1)
