"""Ridge regression on random projections of frozen features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.functional import one_hot

from clear.continual.strategies.closed_form import ClosedForm, ClosedFormLearner, to_device
from clear.core.checks import check_number, check_whole
from clear.core.errors import ConfigError
from clear.core.logs import logger
from clear.registry import MODELS, STRATEGIES

RIDGES = tuple(10.0**power for power in range(-8, 9))


@MODELS.register_module()
class RandomProjectionHead(BaseModule):
    """logits = relu(x P) W^T with a fixed random P (McDonnell et al. 2023, arXiv:2307.02251).

    Args:
        dim: number of random projections, M in the paper.
        init_cfg: as for every mmengine module.

    Shape:
        feats: (N, in_channels), or a tuple whose last element is that   returns: (N, num_classes)

    Raises:
        ConfigError: if a size is not positive.
    """

    def __init__(self, num_classes: int, in_channels: int, dim: int = 10000, init_cfg: dict | None = None):
        super().__init__(init_cfg=init_cfg)
        for name, value in (('num_classes', num_classes), ('in_channels', in_channels), ('dim', dim)):
            check_whole(f'RandomProjectionHead: {name}', value, 1)
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.register_buffer('projection', torch.randn(in_channels, dim))
        self.fc = nn.Linear(dim, num_classes, bias=False)
        nn.init.zeros_(self.fc.weight)

    def pre_logits(self, feats: Tensor | Sequence[Tensor]) -> Tensor:
        """The feature of the last stage, (N, in_channels)."""
        return feats if isinstance(feats, Tensor) else feats[-1]

    def project(self, features: Tensor) -> Tensor:
        """(N, in_channels) -> (N, dim)"""
        return (features @ self.projection).relu()

    def forward(self, feats: Tensor | Sequence[Tensor]) -> Tensor:
        return self.fc(self.project(self.pre_logits(feats)))


class RidgeLearner(ClosedFormLearner):
    """Sums for ridge regression of one-hot labels on projected features: G = sum h h^T, Q = sum h y^T.

    A fifth of the current experience, drawn at random, is summed apart: the ridge is the one of `ridges` with the
    smallest squared error on it, fitted to the rest of that experience. The head is then solved on everything seen.

    Args:
        ridge: a fixed one; None chooses at the end of every experience.
        ridges: what to choose from, > 0.
        val_ratio: share of the samples that choose.
    """

    def __init__(self, ridge: float | None, ridges: Sequence[float] = RIDGES, val_ratio: float = 0.2):
        super().__init__()
        self.is_fixed = ridge is not None
        self.ridge = 1.0 if ridge is None else float(ridge)
        self.ridges = [float(value) for value in ridges]
        self.val_ratio = val_ratio
        self.gram: Tensor | None = None  # of everything before this experience, (M, M) float64
        self.labels: Tensor | None = None  # (M, C)
        self.fit_gram: Tensor | None = None  # of this experience, and of its held-out part
        self.fit_labels: Tensor | None = None
        self.val_gram: Tensor | None = None
        self.val_labels: Tensor | None = None
        self.num_fit = 0
        self.num_val = 0

    def before_training_exp(self, strategy, **kwargs):
        self.fit_gram = self.fit_labels = self.val_gram = self.val_labels = None
        self.num_fit = self.num_val = 0

    def observe(self, features: Tensor, targets: Tensor, head: nn.Module) -> None:
        projected = head.project(features).double()  # (N, M)
        labels = one_hot(targets, head.num_classes).double()  # (N, C)
        to_device(self, ('gram', 'labels', 'fit_gram', 'fit_labels', 'val_gram', 'val_labels'), features.device)
        held_out = torch.zeros(len(targets), dtype=torch.bool)
        if not self.is_fixed:
            held_out = torch.rand(len(targets)) < self.val_ratio
        held_out = held_out.to(features.device)
        self.fit_gram, self.fit_labels = _add(self.fit_gram, self.fit_labels, projected[~held_out], labels[~held_out])
        self.val_gram, self.val_labels = _add(self.val_gram, self.val_labels, projected[held_out], labels[held_out])
        self.num_val += int(held_out.sum())
        self.num_fit += int((~held_out).sum())

    def solve(self, head: nn.Module) -> None:
        if self.fit_gram is None:
            return
        if not self.is_fixed:
            self._choose_ridge()
        gram, labels = self.fit_gram + self.val_gram, self.fit_labels + self.val_labels
        self.gram = gram if self.gram is None else self.gram.add_(gram)
        self.labels = labels if self.labels is None else self.labels.add_(labels)
        self.fit_gram = self.fit_labels = self.val_gram = self.val_labels = None
        solution = solve_ridge(self.gram, self.labels, self.ridge)
        if solution is None:
            raise ConfigError(f'RanPAC: with ridge={self.ridge} the projected features have no unique solution. Use a '
                              'larger ridge.')
        head.fc.weight.data.copy_(solution.T)

    def _choose_ridge(self) -> None:
        if not self.num_fit or not self.num_val:
            logger.warning('RanPAC: %d samples are too few to choose a ridge; it stays %g.',
                           self.num_fit + self.num_val, self.ridge)
            return
        errors = {ridge: self.validation_error(ridge) for ridge in self.ridges}
        self.ridge = min(errors, key=lambda ridge: (errors[ridge], ridge))
        logger.info('RanPAC: ridge %g, mean squared error %.4f on %d held-out samples', self.ridge,
                    errors[self.ridge], self.num_val)

    def validation_error(self, ridge: float) -> float:
        """Mean over held-out samples and classes of the squared error; infinite where there is no solution."""
        solution = solve_ridge(self.fit_gram, self.fit_labels, ridge)
        if solution is None:
            return float('inf')
        # |H W - Y|^2 = tr(W^T G W) - 2 tr(W^T Q) + |Y|^2, and one-hot labels have |Y|^2 = N.
        error = (solution * (self.val_gram @ solution)).sum() - 2 * (solution * self.val_labels).sum() + self.num_val
        return float(error) / (self.num_val * solution.shape[1])


def _add(gram: Tensor | None, labels: Tensor | None, projected: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    new_gram, new_labels = projected.T @ projected, projected.T @ targets  # (M, M), (M, C)
    return (new_gram, new_labels) if gram is None else (gram.add_(new_gram), labels.add_(new_labels))


def solve_ridge(gram: Tensor, labels: Tensor, ridge: float) -> Tensor | None:
    """(G + ridge I)^-1 Q, (M, C); None where rounding leaves G + ridge I without a Cholesky factor."""
    damped = gram.clone()
    damped.diagonal().add_(ridge)
    factor, info = torch.linalg.cholesky_ex(damped)
    return None if int(info) else torch.cholesky_solve(labels, factor)


@STRATEGIES.register_module()
class RanPAC(ClosedForm):
    """Ridge regression on random projections (McDonnell et al. 2023, arXiv:2307.02251), without the paper's adapters.

    Needs `head=dict(type='RandomProjectionHead', ...)`, whose `dim` M fixes the cost: three M x M matrices of float64
    (2.4 GB for the paper's 10000) and one Cholesky factor of that size per candidate ridge and experience.

    Args:
        ridge: a fixed one; None chooses on a fifth of each experience, as the paper does.
        ridges: what to choose from.

    Raises:
        ConfigError: for a ridge that is not positive, or another head.
    """

    def __init__(self, *, model: nn.Module, ridge: float | None = None, ridges: Sequence[float] = RIDGES, **kwargs):
        if not isinstance(getattr(model, 'head', None), RandomProjectionHead):
            raise ConfigError("RanPAC needs model.head=dict(type='RandomProjectionHead', num_classes=..., "
                              f"in_channels=..., dim=...); it is {type(getattr(model, 'head', None)).__name__}.")
        for value in (*ridges, *([] if ridge is None else [ridge])):
            check_number('ridge', value, above=0)
        super().__init__(model=model, learner=RidgeLearner(ridge, ridges), **kwargs)
