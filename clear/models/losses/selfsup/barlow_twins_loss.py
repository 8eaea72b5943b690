"""Redundancy reduction by the cross-correlation of two views."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from clear.core import dist
from clear.models.losses.inputs import check_positive
from clear.models.losses.pair_loss import Given, PairLoss
from clear.models.losses.selfsup.statistics import GlobalBatch
from clear.registry import MODELS


@MODELS.register_module()
class BarlowTwinsLoss(PairLoss):
    """`sum_i (1 - C_ii)^2 + lambd * sum_{i != j} C_ij^2` with C the cross-correlation of the standardised views
    (Barlow Twins, Zbontar et al. 2021, arXiv:2103.03230, eq. 1). The views may be modalities.

    Args:
        lambd: weight of the off-diagonal part, > 0.
        eps: added to variances, as in BatchNorm.
        gather: mean, variance and C of the global batch; processes may have different numbers of rows.
        detach_teacher: send no gradient to z1.
        legacy: as ITRA has it: rows and then columns have unit norm, and C is divided by N once more, so that C_ii is
            at most 1 / N and its aim out of reach. Over processes (gather) columns are of each process, C is the sum,
            and each differentiates its own share.

    Shape:
        z1, z2: (N, D), of any norm   returns: ()

    Raises:
        ValueError: if an argument is not positive, shapes do not fit, or the batch has one row.

    Example:
        >>> views = torch.tensor([[1., 0.], [0., 1.], [1., 1.], [0., 0.]])  # uncorrelated columns
        >>> round(BarlowTwinsLoss(eps=1e-12)(views, views).item(), 4)
        0.0
    """

    sides = ('z1', 'z2')

    def __init__(self, lambd: float = 0.0051, eps: float = 1e-5, *, gather: bool = True, detach_teacher: bool = False,
                 legacy: bool = False):
        super().__init__(gather=gather, detach_teacher=detach_teacher, legacy=legacy)
        check_positive(self, lambd=lambd, eps=eps)
        self.lambd = lambd
        self.eps = eps

    def compare(self, z1: Tensor, z2: Tensor, given: Given) -> Tensor:
        correlation = self._legacy_correlation(z1, z2) if self.legacy else self._correlation(z1, z2)
        diagonal = correlation.diagonal()
        # Subtracting squares would lose digits of the small part; the diagonal is masked instead.
        off_diagonal = correlation - correlation.diag().diag()
        return (1 - diagonal).square().sum() + self.lambd * off_diagonal.square().sum()

    def _correlation(self, z1: Tensor, z2: Tensor) -> Tensor:
        batch = GlobalBatch(z1, self.gather, min_rows=2)
        z1, z2 = batch.standardised(z1, self.eps), batch.standardised(z2, self.eps)
        return batch.sum(z1.T @ z2) / batch.count  # (D, N) @ (N, D) -> (D, D)

    def _legacy_correlation(self, z1: Tensor, z2: Tensor) -> Tensor:
        z1, z2 = (F.normalize(F.normalize(view, dim=1), dim=0) for view in (z1, z2))
        own = z1.T @ z2 / len(z1)
        if not self.gather:
            return own
        return own + (dist.sum_over_ranks(own.detach().clone()) - own.detach())

    def extra_repr(self) -> str:
        return f'lambd={self.lambd}, eps={self.eps}, {super().extra_repr()}'
