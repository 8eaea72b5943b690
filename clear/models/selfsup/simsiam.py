"""SimSiam."""

from __future__ import annotations

from torch import Tensor, nn

from clear.models.losses import NegativeCosineSimilarity
from clear.models.selfsup.parts.encoder import build_part
from clear.models.selfsup.parts.two_views import TwoViews
from clear.registry import MODELS


@MODELS.register_module()
class SimSiam(TwoViews):
    """Each view predicts the other's embedding, which takes no gradient (SimSiam, Chen and He 2021, arXiv:2011.10566).

    `-(cos(p1, z2) + cos(p2, z1)) / 2`, in [-1, 1]. The paper keeps the predictor's learning rate constant; that is
    the optimiser's matter.

    Args:
        backbone, neck: see `Encoder`.
        predictor: config or module, embeddings to embeddings.
        channels_last, data_preprocessor, init_cfg: see `SelfSupervisedModel`.

    Shape:
        views: two of (N, 3, h, w)   returns: dict(loss=())

    Raises:
        ConfigError: if parts do not fit.
    """

    def __init__(self, backbone: dict | nn.Module, neck: dict | nn.Module, predictor: dict | nn.Module, *,
                 channels_last: bool | None = None, data_preprocessor: dict | nn.Module | None = None,
                 init_cfg: dict | list | None = None):
        super().__init__(NegativeCosineSimilarity(), backbone, neck, channels_last=channels_last,
                         data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.predictor = build_part('predictor', predictor)

    def compute_losses(self, views: list[Tensor]) -> dict[str, Tensor]:
        z1, z2 = (self.encoder(view) for view in views)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        return dict(loss=(self.criterion(p1, z2) + self.criterion(p2, z1)) / 2)
