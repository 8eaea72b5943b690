"""Barlow Twins."""

from __future__ import annotations

from torch import nn

from clear.models.losses import BarlowTwinsLoss
from clear.models.selfsup.parts.two_views import TwoViews
from clear.registry import MODELS


@MODELS.register_module()
class BarlowTwins(TwoViews):
    """The cross-correlation of the embeddings of two views is to be the identity (Barlow Twins, Zbontar et al. 2021,
    arXiv:2103.03230).

    Args:
        backbone, neck: see `Encoder`; the last layer of the neck is plain.
        lambd: weight of the off-diagonal part.
        channels_last, data_preprocessor, init_cfg: see `SelfSupervisedModel`.

    Shape:
        views: two of (N, 3, h, w)   returns: dict(loss=())

    Raises:
        ConfigError: if parts do not fit.
        ValueError: if lambd is not positive.
    """

    def __init__(self, backbone: dict | nn.Module, neck: dict | nn.Module, lambd: float = 0.0051, *,
                 channels_last: bool | None = None, data_preprocessor: dict | nn.Module | None = None,
                 init_cfg: dict | list | None = None):
        super().__init__(BarlowTwinsLoss(lambd), backbone, neck, channels_last=channels_last,
                         data_preprocessor=data_preprocessor, init_cfg=init_cfg)
