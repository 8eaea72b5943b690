"""The classifier of ELEVATER: BatchNorm without affine, a linear layer, scaled logits; and its first weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from clear.core.checks import check_choice
from clear.core.errors import ConfigError
from clear.evaluation.image.grid.stacked import initial_head

LOGIT_SCALES = ('none', 'pretrained', 'ln_cls', 'clip')
CLIP_LOG_SCALE = math.log(1 / 0.07)


def first_log_scale(kind: str, num_classes: int, pretrained: float | None = None) -> float:
    """The logarithm of what logits are multiplied by at first.

    Args:
        kind: 'none' is 0; 'pretrained' that of the towers; 'ln_cls' is ln ln of the number of classes; 'clip' is
            ln(1 / 0.07).
        pretrained: logarithm of the towers' scale.

    Raises:
        ConfigError: for another kind, towers without a scale, or 'ln_cls' of a single class.
    """
    check_choice('logit_scale', kind, LOGIT_SCALES)
    if kind == 'pretrained':
        if pretrained is None:
            raise ConfigError("logit_scale='pretrained', but the encoder has no logit scale.")
        return float(pretrained)
    if kind == 'ln_cls':
        if num_classes < 2:
            raise ConfigError("logit_scale='ln_cls' needs at least two classes.")
        return math.log(math.log(num_classes))
    return CLIP_LOG_SCALE if kind == 'clip' else 0.0


class BatchNormHead(nn.Module):
    """`exp(log_scale) * linear(batch_norm(features))` (ELEVATER, Li et al. 2022, arXiv:2204.08790, their code).

    BatchNorm has no affine part. In evaluation it uses running statistics, which are 0 and 1 at first: a head from
    class embeddings classifies as zero-shot does before it has learnt.

    Args:
        weight: (C, D) first weights; bias: (C,).
        log_scale: logarithm of the scale at first.
        train_scale: whether it trains.
        normalise: bring features to unit length behind BatchNorm.
        batch_norm: False leaves BatchNorm out.

    Shape:
        features: (N, D)   returns: (N, C)
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, log_scale: float = 0.0, train_scale: bool = False,
                 normalise: bool = False, batch_norm: bool = True):
        super().__init__()
        num_classes, dim = weight.shape
        self.batch_norm = nn.BatchNorm1d(dim, affine=False) if batch_norm else nn.Identity()
        self.linear = nn.Linear(dim, num_classes)
        with torch.no_grad():
            self.linear.weight.copy_(weight)
            self.linear.bias.copy_(bias)
        self.log_scale = nn.Parameter(torch.tensor(float(log_scale)), requires_grad=train_scale)
        self.normalise = normalise

    def forward(self, features: Tensor) -> Tensor:
        features = self.batch_norm(features)
        if self.normalise:
            features = functional.normalize(features)
        return self.log_scale.exp() * self.linear(features)


def random_weights(num_classes: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Weight (C, D) and bias (C,) as `torch.nn.Linear` draws them."""
    return initial_head(num_classes, dim, seed)


def language_weights(vectors: Tensor, projection: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Weight and bias of a head that classifies by class embeddings: the embeddings (C, E), and 0.

    Args:
        projection: (D, E), by which features x of width D become the embedding x P; it is merged into the weight,
            W P^T (C, D), for features in front of it.
    """
    weight = vectors if projection is None else vectors @ projection.T.to(vectors)
    return weight, weight.new_zeros(len(weight))
