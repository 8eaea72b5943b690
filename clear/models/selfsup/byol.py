"""BYOL."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clear.models.losses import NegativeCosineSimilarity
from clear.models.selfsup.parts.encoder import Encoder, build_part
from clear.models.selfsup.parts.momentum import check_momentum, cosine_momentum, momentum_copy
from clear.models.selfsup.parts.two_views import TwoViews
from clear.registry import MODELS


@MODELS.register_module()
class BYOL(TwoViews):
    """Each view predicts what a momentum encoder makes of the other (BYOL, Grill et al. 2020, arXiv:2006.07733).

    `(2 - 2 cos(p1, z'2)) + (2 - 2 cos(p2, z'1))`, in [0, 8]. The momentum goes from its first value to 1 along a half
    cosine. The moving average is taken at the start of an iteration, not at the end of the one before, and so with the
    momentum of one step later than in the authors' code.

    Args:
        backbone, neck: see `Encoder`.
        predictor: config or module, embeddings to embeddings.
        momentum: share of the momentum encoder's weights that the first iteration keeps; the paper has 0.99 for 300
            epochs, 0.996 for 1000.
        channels_last, data_preprocessor, init_cfg: see `SelfSupervisedModel`.

    Shape:
        views: two of (N, 3, h, w)   returns: dict(loss=())

    Raises:
        ConfigError: if an argument is out of range or parts do not fit.
    """

    def __init__(self, backbone: dict | nn.Module, neck: dict | nn.Module, predictor: dict | nn.Module,
                 momentum: float = 0.996, *, channels_last: bool | None = None,
                 data_preprocessor: dict | nn.Module | None = None, init_cfg: dict | list | None = None):
        super().__init__(NegativeCosineSimilarity(), backbone, neck, channels_last=channels_last,
                         data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        check_momentum(self, momentum)
        self.momentum = momentum
        self.predictor = build_part('predictor', predictor)
        self.momentum_encoder: Encoder = momentum_copy(self.encoder)

    def momentum_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.momentum_encoder, self.encoder)]

    def current_momentum(self) -> float:
        return cosine_momentum(self.momentum, 0.0 if self.progress is None else self.progress.share)

    def compute_losses(self, views: list[Tensor]) -> dict[str, Tensor]:
        p1, p2 = (self.predictor(self.encoder(view)) for view in views)
        with torch.no_grad():
            z1, z2 = (self.momentum_encoder(view) for view in views)
        return dict(loss=(2 + 2 * self.criterion(p1, z2)) + (2 + 2 * self.criterion(p2, z1)))
