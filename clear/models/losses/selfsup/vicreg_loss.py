"""Variance, invariance, covariance."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clear.models.losses.inputs import check_positive
from clear.models.losses.pair_loss import Given, PairLoss
from clear.models.losses.selfsup.statistics import GlobalBatch
from clear.registry import MODELS


@MODELS.register_module()
class VICRegLoss(PairLoss):
    """`invariance * MSE(z1, z2) + variance * (v(z1) + v(z2)) / 2 + covariance * (c(z1) + c(z2))` (VICReg, Bardes et
    al. 2022, arXiv:2105.04906).

    v is the mean over columns of `relu(1 - sqrt(var + eps))`, c the sum of squared off-diagonal covariances over D;
    variance and covariance are the unbiased ones.

    The half of the variance part is in the authors' code and not in the paper's equation. The views may be modalities.

    Args:
        invariance, variance, covariance: weights of the three parts, > 0.
        eps: added to variances under the root.
        gather: all three over the global batch; processes may have different numbers of rows.
        detach_teacher: send no gradient to z1.
        legacy: as ITRA has it, rows are normalised first. The spread of a column is then about 1 / sqrt(D), and the
            variance part almost a constant.

    Shape:
        z1, z2: (N, D), of any norm   returns: ()

    Raises:
        ValueError: if an argument is not positive, shapes do not fit, or the batch has one row.

    Example:
        >>> views = torch.tensor([[1., 1.], [1., -1.], [-1., 1.], [-1., -1.]])  # of variance 4/3, uncorrelated
        >>> VICRegLoss()(views, views).item()
        0.0
    """

    sides = ('z1', 'z2')

    def __init__(self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0, eps: float = 1e-4, *,
                 gather: bool = True, detach_teacher: bool = False, legacy: bool = False):
        super().__init__(gather=gather, detach_teacher=detach_teacher, legacy=legacy)
        check_positive(self, invariance=invariance, variance=variance, covariance=covariance, eps=eps)
        self.invariance = invariance
        self.variance = variance
        self.covariance = covariance
        self.eps = eps

    def compare(self, z1: Tensor, z2: Tensor, given: Given) -> Tensor:
        if self.legacy:
            z1, z2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
        batch = GlobalBatch(z1, self.gather, min_rows=2)
        invariance = batch.sum((z1 - z2).square().sum()) / (batch.count * z1.shape[1])
        spreads, mixtures = zip(*(self._spread_and_mixture(batch, view) for view in (z1, z2)))
        return (self.invariance * invariance + self.variance * sum(spreads) / 2 + self.covariance * sum(mixtures))

    def _spread_and_mixture(self, batch: GlobalBatch, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The parts v and c of one view."""
        centred = batch.centred(rows)
        covariance = batch.sum(centred.T @ centred) / (batch.count - 1)  # (D, N) @ (N, D) -> (D, D)
        variance = covariance.diagonal()
        spread = F.relu(1 - torch.sqrt(variance + self.eps)).mean()
        off_diagonal = covariance - covariance.diag().diag()
        return spread, off_diagonal.square().sum() / rows.shape[1]

    def extra_repr(self) -> str:
        return (f'invariance={self.invariance}, variance={self.variance}, covariance={self.covariance}, '
                f'eps={self.eps}, {super().extra_repr()}')
