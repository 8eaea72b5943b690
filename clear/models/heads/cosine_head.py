"""A head whose logits are scaled cosines between a feature and one weight vector per class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmpretrain.models.heads import ClsHead
from torch import nn

from clear.core.checks import check_number, check_whole
from clear.registry import MODELS

# As mmpretrain initialises its linear heads; the base class copies it.
_NORMAL = {'type': 'Normal', 'layer': 'Linear', 'std': 0.01}


@MODELS.register_module()
class CosineDistanceHead(ClsHead):
    """logits = temperature * cos(x, w_c), the angle to each class's weight vector and nothing else.

    The weights are those of a linear layer without bias, saved as `fc.weight` (num_classes, in_channels), so a
    few-shot prototype can be written straight into them: the scale of a row does not matter.

    Args:
        temperature: factor of the cosine, > 0. At the default 2.0 the softmax is flat: a perfect match among 11
            classes with all others orthogonal gets e^2 / (e^2 + 10) = 0.42.
        eps: smallest norm that is divided by; a zero vector has logits 0 instead of NaN.
        kwargs: `loss`, `topk`, `cal_acc` of mmpretrain's `ClsHead`.

    Shape:
        feats: (N, in_channels), or a tuple whose last element is that   returns: (N, num_classes)

    Raises:
        ConfigError: if a size, the temperature or eps is not positive.
    """

    def __init__(self, num_classes: int, in_channels: int, temperature: float = 2.0, eps: float = 1e-12,
                 init_cfg: dict | None = _NORMAL, **kwargs):
        super().__init__(init_cfg=init_cfg, **kwargs)
        for name, value in (('num_classes', num_classes), ('in_channels', in_channels)):
            check_whole(f'CosineDistanceHead: {name}', value, 1)
        for name, value in (('temperature', temperature), ('eps', eps)):
            check_number(f'CosineDistanceHead: {name}', value, above=0)
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.temperature = temperature
        self.eps = eps
        self.fc = nn.Linear(in_channels, num_classes, bias=False)

    def pre_logits(self, feats: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """The feature of the last stage, (N, in_channels)."""
        return feats if isinstance(feats, torch.Tensor) else feats[-1]

    def forward(self, feats: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        features = self._unit(self.pre_logits(feats))
        return self.temperature * F.linear(features, self._unit(self.fc.weight))  # (N, D) @ (D, C) -> (N, C)

    def _unit(self, vectors: torch.Tensor) -> torch.Tensor:
        # At least float32: eps is 0 in float16, and a zero vector would become NaN.
        return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1, eps=self.eps)
