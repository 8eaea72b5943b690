"""Base of the algorithms with one encoder, two views and one loss over their embeddings."""

from __future__ import annotations

from torch import Tensor, nn

from clear.models.selfsup.parts.base import SelfSupervisedModel
from clear.models.selfsup.parts.encoder import Encoder


class TwoViews(SelfSupervisedModel):
    """`criterion(z1, z2)` of the embeddings of two views, each encoded as a batch of its own.

    Args:
        criterion: (N, D), (N, D) -> ().
        backbone, neck: see `Encoder`.
        channels_last, data_preprocessor, init_cfg: see `SelfSupervisedModel`.

    Shape:
        views: two of (N, 3, h, w)   returns: dict(loss=())
    """

    def __init__(self, criterion: nn.Module, backbone: dict | nn.Module, neck: dict | nn.Module, *,
                 channels_last: bool | None, data_preprocessor: dict | nn.Module | None, init_cfg: dict | list | None):
        super().__init__(channels_last=channels_last, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.encoder = Encoder(backbone, neck, channels_last=channels_last)
        self.criterion = criterion

    @property
    def evaluated(self) -> Encoder:
        return self.encoder

    def compute_losses(self, views: list[Tensor]) -> dict[str, Tensor]:
        return dict(loss=self.criterion(self.encoder(views[0]), self.encoder(views[1])))
