"""SimCLR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from clear.core import dist
from clear.core.errors import ConfigError
from clear.models.losses import NTXentLoss
from clear.models.selfsup.parts.encoder import split_groups
from clear.models.selfsup.parts.two_views import TwoViews
from clear.registry import MODELS


@MODELS.register_module()
class SimCLR(TwoViews):
    """Find the other view of an image among all views of the global batch (SimCLR, Chen et al. 2020,
    arXiv:2002.05709).

    Both views are one batch, as in the authors' code: BatchNorm sees 2N images.

    Args:
        backbone, neck: see `Encoder`.
        temperature: of the softmax.
        channels_last, data_preprocessor, init_cfg: see `SelfSupervisedModel`.

    Shape:
        views: two of (N, 3, h, w), of one size   returns: dict(loss=())

    Raises:
        ConfigError: if parts do not fit.
        ValueError: if the temperature is not positive.
    """

    def __init__(self, backbone: dict | nn.Module, neck: dict | nn.Module, temperature: float = 0.1, *,
                 channels_last: bool | None = None, data_preprocessor: dict | nn.Module | None = None,
                 init_cfg: dict | list | None = None):
        super().__init__(NTXentLoss(temperature), backbone, neck, channels_last=channels_last,
                         data_preprocessor=data_preprocessor, init_cfg=init_cfg)

    def check_batch(self, shown: Mapping[str, Tensor | Sequence], batch_size: int) -> None:
        super().check_batch(shown, batch_size)
        if batch_size * dist.world_size() == 1:
            raise ConfigError('SimCLR: a batch of one image has no negatives: its loss is 0 whatever the weights. Use '
                              'a batch_size of at least 2.')

    def compute_losses(self, views: list[Tensor]) -> dict[str, Tensor]:
        both = [[0, 1]]
        embeddings = self.encoder.neck(self.encoder.pooled_groups(views, both))
        return dict(loss=self.criterion(*split_groups(embeddings, both)))
