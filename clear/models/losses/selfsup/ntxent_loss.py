"""SimCLR's normalised, temperature-scaled cross-entropy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clear.core import dist
from clear.core.dist import gather_rows
from clear.models.losses.inputs import check_matrices, check_positive, full_precision
from clear.registry import MODELS


@MODELS.register_module()
class NTXentLoss(nn.Module):
    """Find the other view of an image among all other views of the global batch (SimCLR, Chen et al. 2020,
    arXiv:2002.05709, eq. 1).

    Args:
        temperature: of the softmax, > 0.
        gather: see the rows of all processes. Every process must have the same number of rows.

    Shape:
        z1, z2: (N, D), of any norm: they are normalised here   returns: (), mean over the 2N rows of this process

    Raises:
        ValueError: if the temperature is not positive or shapes do not fit.

    Example:
        >>> views = torch.eye(2)
        >>> round(NTXentLoss(temperature=1.0)(views, views).item(), 4)  # log(1 + 2/e)
        0.5514
    """

    def __init__(self, temperature: float = 0.1, *, gather: bool = True):
        super().__init__()
        check_positive(self, temperature=temperature)
        self.temperature = temperature
        self.gather = gather

    @full_precision
    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        check_matrices(self, z1=z1, z2=z2)
        z1, z2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
        # Both views of one process side by side, so that one collective fetches them.
        pairs = torch.stack([z1, z2], 1)  # (N, 2, D)
        everything = (gather_rows(pairs) if self.gather else pairs).flatten(0, 1)
        own = pairs.flatten(0, 1)
        scores = own @ everything.T / self.temperature  # (2N, D) @ (D, 2M) -> (2N, 2M)
        first = dist.rank() * len(own) if self.gather else 0
        rows = torch.arange(len(own), device=own.device)
        scores = scores.index_put((rows, first + rows), scores.new_tensor(-torch.inf))
        positive = (z1 * z2).sum(1) / self.temperature
        return scores.logsumexp(1).mean() - positive.mean()

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}, gather={self.gather}'
