"""Transformation invariance and covariance contrast."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clear.core.checks import check_number
from clear.models.losses.inputs import check_matrices, check_positive, full_precision
from clear.models.losses.selfsup.statistics import GlobalBatch
from clear.registry import MODELS


@MODELS.register_module()
class TiCoLoss(nn.Module):
    """`1 - mean(z1.z2) + rho * mean(z1' C z1)`, where C follows the second moments of z1 (TiCo, Zhu et al. 2022,
    arXiv:2206.10698).

    `C = beta * C_before + (1 - beta) * z1' z1 / N`, with gradient through the new part. In train mode C, a buffer,
    is kept for the next batch. The 1 is ours: the first part is then a distance, never below 0.

    Args:
        embed_dim: width D.
        beta: share of the old C that is kept, in [0, 1).
        rho: weight of the covariance part, > 0. 20 is the default of sayannag/TiCo-pytorch, whose comment calls 8.0 the
            paper's advice; lightly's default is 8.0. Which of them the paper used, we could not check.
        gather: C and both means over the global batch.

    Shape:
        z1: (N, D), of any norm: it is normalised here   z2: (N, D), the target, usually of a momentum encoder
        returns: ()

    Raises:
        ValueError: if an argument is out of range or shapes do not fit.

    Example:
        >>> views = torch.eye(2)
        >>> round(TiCoLoss(embed_dim=2, beta=0.0, rho=1.0)(views, views).item(), 4)  # 0 + z C z, and C = 1/2
        0.5
    """

    def __init__(self, embed_dim: int = 256, beta: float = 0.9, rho: float = 20.0, *, gather: bool = True):
        super().__init__()
        check_positive(self, embed_dim=embed_dim, rho=rho)
        check_number('TiCoLoss: beta', beta, 0, below=1)
        self.beta = beta
        self.rho = rho
        self.gather = gather
        self.register_buffer('covariance', torch.zeros(embed_dim, embed_dim))

    @full_precision
    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        check_matrices(self, z1=z1, z2=z2)
        if z1.shape[1] != len(self.covariance):
            raise ValueError(f'TiCoLoss: embeddings have {z1.shape[1]} columns, but embed_dim is '
                             f'{len(self.covariance)}.')
        z1, z2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
        batch = GlobalBatch(z1, self.gather)
        moments = batch.sum(z1.T @ z1) / batch.count  # (D, N) @ (N, D) -> (D, D)
        covariance = self.beta * self.covariance.to(z1.dtype) + (1 - self.beta) * moments
        agreement = batch.sum((z1 * z2).sum()) / batch.count
        contrast = batch.sum((z1 @ covariance * z1).sum()) / batch.count
        if self.training:
            self.covariance.copy_(covariance.detach())
        return 1 - agreement + self.rho * contrast

    def extra_repr(self) -> str:
        return f'embed_dim={len(self.covariance)}, beta={self.beta}, rho={self.rho}, gather={self.gather}'
