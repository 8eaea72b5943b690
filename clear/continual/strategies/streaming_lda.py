"""Streaming linear discriminant analysis on frozen features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clear.continual.strategies.closed_form import ClosedForm, ClosedFormLearner, to_device, write_head
from clear.core.checks import check_number
from clear.registry import STRATEGIES


class StreamingLDALearner(ClosedFormLearner):
    """Running class means and one shared covariance, updated sample by sample in the order of the stream.

    With t samples before it, sample z of class y changes the covariance to (t S + t / (t + 1) d d^T) / (t + 1), where
    d = z - mean_y before z (Hayes and Kanan 2020, arXiv:1909.01520). A batch is taken in as one product: the means
    before each sample are running sums. The first sample of a class has no mean to differ from, and d = 0.

    Args:
        shrinkage: weight of the identity in the covariance that is inverted.
        legacy: d of a class's first sample is the sample itself, as in the authors' code, where means begin at 0.
    """

    def __init__(self, shrinkage: float, legacy: bool = False):
        super().__init__()
        self.shrinkage = shrinkage
        self.legacy = legacy
        self.means: Tensor | None = None  # (C, D) float64
        self.counts: Tensor | None = None  # (C,)
        self.scatter: Tensor | None = None  # covariance times samples, (D, D)
        self.num_seen = 0

    def observe(self, features: Tensor, targets: Tensor, head: nn.Module) -> None:
        features = features.double()
        if self.means is None:
            dim = features.shape[1]
            self.means = features.new_zeros(head.num_classes, dim)
            self.counts = features.new_zeros(head.num_classes)
            self.scatter = features.new_zeros(dim, dim)
        to_device(self, ('means', 'counts', 'scatter'), features.device)
        time = self.num_seen + torch.arange(len(features), dtype=torch.float64, device=features.device)
        deviations = self._deviations(features, targets) * (time / (time + 1)).sqrt()[:, None]
        self.scatter += deviations.T @ deviations  # (D, N) @ (N, D) -> (D, D)
        self.num_seen += len(features)

    def _deviations(self, features: Tensor, targets: Tensor) -> Tensor:
        """Each sample minus the mean of its class before it, (N, D); the means then include all of the batch."""
        deviations = torch.empty_like(features)
        for label in targets.unique().tolist():
            rows = torch.nonzero(targets == label).reshape(-1)
            of_class, count = features[rows], self.counts[label].item()
            sums = count * self.means[label] + of_class.cumsum(0)  # after each sample
            before = torch.cat([(count * self.means[label])[None], sums[:-1]])
            numbers = count + torch.arange(len(rows), dtype=torch.float64, device=rows.device)
            deviations[rows] = of_class - before / numbers.clamp(min=1)[:, None]
            if count == 0 and not self.legacy:
                deviations[rows[0]] = 0
            self.counts[label] += len(rows)
            self.means[label] = sums[-1] / self.counts[label]
        return deviations

    def covariance(self) -> Tensor:
        """(D, D)"""
        return self.scatter / max(self.num_seen, 1)

    def solve(self, head: nn.Module) -> None:
        if self.means is None:
            return
        identity = torch.eye(len(self.scatter), dtype=torch.float64, device=self.scatter.device)
        shrunk = (1 - self.shrinkage) * self.covariance() + self.shrinkage * identity
        weight = torch.linalg.solve(shrunk, self.means.T).T  # (D, D), (D, C) -> (C, D)
        write_head(head, weight, -(weight * self.means).sum(1) / 2, self.counts > 0)


@STRATEGIES.register_module()
class StreamingLDA(ClosedForm):
    """Linear discriminant analysis of a stream of features (Hayes and Kanan 2020, arXiv:1909.01520).

    The solution is the head's weights, so the model predicts without the strategy. Needs a head with a bias.

    Args:
        shrinkage_param: weight of the identity in the covariance, in (0, 1].
        legacy: the first sample of each class counts with its whole length in the covariance (see the learner).

    Raises:
        ConfigError: for a shrinkage outside (0, 1]: without any the covariance of few samples has no inverse.
    """

    def __init__(self, *, shrinkage_param: float = 1e-4, legacy: bool = False, **kwargs):
        check_number('shrinkage_param', shrinkage_param, above=0, most=1)
        super().__init__(learner=StreamingLDALearner(shrinkage_param, legacy), needs_bias=True, **kwargs)
