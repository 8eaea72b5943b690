"""The projector (and predictor) of almost every self-supervised method."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from clear.core.checks import check_whole
from clear.core.errors import ConfigError, nearest
from clear.registry import MODELS

ACTIVATIONS = {'relu': nn.ReLU, 'gelu': nn.GELU}


@MODELS.register_module()
class ProjectionMLP(BaseModule):
    """Linear layers with an activation, and BatchNorm if asked for, between them.

    The papers' projectors for features of width D: MoCo v1 `num_layers=1`, out 128; MoCo v2 and CLSA D-D-128; SimCLR
    D-2048-128 with `norm`, `last_norm` and no last bias; BYOL D-4096-256 with `norm`, its predictor 256-4096-256
    alike; SimSiam three layers of 2048 with `norm`, `last_norm`, `last_affine=False` and no bias, its predictor
    2048-512-2048 with `norm`; Barlow Twins and VICReg three of 8192 with `norm`, no bias; SwAV D-2048-128 with `norm`.

    Args:
        in_channels, out_channels: widths of input and output.
        hidden_channels: width of the layers between; None takes `in_channels`.
        num_layers: linear layers; 1 is a single one without activation.
        norm: BatchNorm after every linear layer but the last.
        last_norm: BatchNorm after the last one.
        last_affine: whether that one has a scale and a shift.
        bias: of the linear layers but the last; one before BatchNorm has no effect.
        last_bias: of the last linear layer.
        activation: 'relu' or 'gelu'.
        init_cfg: as for every mmengine module; without one, torch's initialisation stays.

    Shape:
        features: (N, in_channels)   returns: (N, out_channels)

    Raises:
        ConfigError: if a size is below 1 or the activation is unknown.
    """

    def __init__(self, in_channels: int, out_channels: int, hidden_channels: int | None = None, num_layers: int = 2, *,
                 norm: bool = False, last_norm: bool = False, last_affine: bool = True, bias: bool = True,
                 last_bias: bool = True, activation: str = 'relu', init_cfg: dict | list | None = None):
        super().__init__(init_cfg=init_cfg)
        hidden_channels = in_channels if hidden_channels is None else hidden_channels
        check_sizes('ProjectionMLP', in_channels=in_channels, out_channels=out_channels,
                    hidden_channels=hidden_channels, num_layers=num_layers)
        if activation not in ACTIVATIONS:
            near = nearest(activation, ACTIVATIONS)
            raise ConfigError(f"ProjectionMLP: activation '{activation}' is unknown, expected one of "
                              f"{', '.join(ACTIVATIONS)}{f'; did you mean {near}?' if near else '.'}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        layers: list[nn.Module] = []
        width = in_channels
        for _ in range(num_layers - 1):
            layers.append(nn.Linear(width, hidden_channels, bias=bias))
            layers += [nn.BatchNorm1d(hidden_channels)] if norm else []
            layers.append(ACTIVATIONS[activation]())
            width = hidden_channels
        layers.append(nn.Linear(width, out_channels, bias=last_bias))
        layers += [nn.BatchNorm1d(out_channels, affine=last_affine)] if last_norm else []
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


def check_sizes(owner: str, **sizes: int) -> None:
    """Raise ConfigError unless every size is an integer >= 1."""
    for name, value in sizes.items():
        check_whole(f'{owner}: {name}', value, 1)
