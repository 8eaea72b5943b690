"""VICReg."""

from __future__ import annotations

from torch import nn

from clear.models.losses import VICRegLoss
from clear.models.selfsup.parts.two_views import TwoViews
from clear.registry import MODELS


@MODELS.register_module()
class VICReg(TwoViews):
    """Embeddings of two views agree, every dimension varies, and no two vary together (VICReg, Bardes et al. 2022,
    arXiv:2105.04906).

    Args:
        backbone, neck: see `Encoder`.
        invariance, variance, covariance: weights of the three parts.
        channels_last, data_preprocessor, init_cfg: see `SelfSupervisedModel`.

    Shape:
        views: two of (N, 3, h, w)   returns: dict(loss=())

    Raises:
        ConfigError: if parts do not fit.
        ValueError: if a weight is not positive.
    """

    def __init__(self, backbone: dict | nn.Module, neck: dict | nn.Module, invariance: float = 25.0,
                 variance: float = 25.0, covariance: float = 1.0, *, channels_last: bool | None = None,
                 data_preprocessor: dict | nn.Module | None = None, init_cfg: dict | list | None = None):
        super().__init__(VICRegLoss(invariance, variance, covariance), backbone, neck, channels_last=channels_last,
                         data_preprocessor=data_preprocessor, init_cfg=init_cfg)
