"""The loss of BYOL and SimSiam: prediction against a target that receives no gradient."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from clear.models.losses.inputs import check_matrices, full_precision
from clear.registry import MODELS


@MODELS.register_module()
class NegativeCosineSimilarity(nn.Module):
    """`-cos(p, z)`, mean over the batch; z is a constant (SimSiam, Chen and He 2021, arXiv:2011.10566, eq. 1).

    BYOL's loss (Grill et al. 2020, arXiv:2006.07733) is `2 + 2 * loss`.

    Shape:
        p, z: (N, D), of any norm: they are normalised here   returns: (), in [-1, 1]

    Raises:
        ValueError: if shapes do not fit.

    Example:
        >>> NegativeCosineSimilarity()(torch.tensor([[2., 0.]]), torch.tensor([[3., 0.]])).item()
        -1.0
    """

    @full_precision
    def forward(self, p: Tensor, z: Tensor) -> Tensor:
        check_matrices(self, p=p, z=z)
        return -(F.normalize(p, dim=1) * F.normalize(z.detach(), dim=1)).sum(1).mean()
