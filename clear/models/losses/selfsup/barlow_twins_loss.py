"""Redundancy reduction by the cross-correlation of two views."""

from __future__ import annotations

from torch import Tensor, nn

from clear.models.losses.inputs import check_matrices, check_positive, full_precision
from clear.models.losses.selfsup.statistics import GlobalBatch
from clear.registry import MODELS


@MODELS.register_module()
class BarlowTwinsLoss(nn.Module):
    """`sum_i (1 - C_ii)^2 + lambd * sum_{i != j} C_ij^2` with C the cross-correlation of the standardised views
    (Barlow Twins, Zbontar et al. 2021, arXiv:2103.03230, eq. 1).

    Args:
        lambd: weight of the off-diagonal part, > 0.
        eps: added to variances, as in BatchNorm.
        gather: mean, variance and C of the global batch.

    Shape:
        z1, z2: (N, D), of any norm   returns: ()

    Raises:
        ValueError: if an argument is not positive, shapes do not fit, or the batch has one row.

    Example:
        >>> views = torch.tensor([[1., 0.], [0., 1.], [1., 1.], [0., 0.]])  # uncorrelated columns
        >>> round(BarlowTwinsLoss(eps=1e-12)(views, views).item(), 4)
        0.0
    """

    def __init__(self, lambd: float = 0.0051, eps: float = 1e-5, *, gather: bool = True):
        super().__init__()
        check_positive(self, lambd=lambd, eps=eps)
        self.lambd = lambd
        self.eps = eps
        self.gather = gather

    @full_precision
    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        check_matrices(self, z1=z1, z2=z2)
        batch = GlobalBatch(z1, self.gather, min_rows=2)
        z1, z2 = batch.standardised(z1, self.eps), batch.standardised(z2, self.eps)
        correlation = batch.sum(z1.T @ z2) / batch.count  # (D, N) @ (N, D) -> (D, D)
        diagonal = correlation.diagonal()
        # Subtracting squares would lose digits of the small part; the diagonal is masked instead.
        off_diagonal = correlation - correlation.diag().diag()
        return (1 - diagonal).square().sum() + self.lambd * off_diagonal.square().sum()

    def extra_repr(self) -> str:
        return f'lambd={self.lambd}, eps={self.eps}, gather={self.gather}'
