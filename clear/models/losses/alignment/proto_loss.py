"""Contrast with the centroids of clusters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clear.core.checks import check_flag, check_number
from clear.models.losses.inputs import full_precision
from clear.models.losses.pair_loss import DEFAULT_LOGIT_SCALE, mean_over_processes
from clear.registry import MODELS


@MODELS.register_module()
class ProtoLoss(nn.Module):
    """Find the centroid of a row's cluster; the clusters are those of the other modality, or of an external teacher
    (ProtoCLIP, Chen et al. 2022, arXiv:2206.10996).

    `cross_entropy(scale * features @ student_centroids.T, target)`. The target is the cluster itself, or the softmax of
    how similar the teacher finds its centroid to all of them. One term of ProtoCLIP's loss; its sum is the trainer's.

    Args:
        temperature: of that softmax; None, 0 or less for the cluster itself. The published recipe has 0.01.
        gather: mean over the labelled rows of all processes, which may differ in number.

    Shape:
        features: (N, D)   student_centroids: (K, D)   teacher_centroids: (K, E), all taken as they are
        labels: (N,), in 0 ... K - 1, or -1 for a row that does not count   logit_scale: a factor, None is 1 / 0.07
        returns: ()

    Raises:
        ValueError: if shapes do not fit.

    Example:
        >>> features, labels = torch.eye(2), torch.tensor([0, -1])
        >>> loss = ProtoLoss()(features, torch.eye(2), torch.eye(2), labels, logit_scale=1.0)
        >>> round(loss.item(), 4)  # log(1 + 1/e), of the first row
        0.3133
    """

    def __init__(self, temperature: float | None = None, *, gather: bool = True):
        super().__init__()
        self.temperature = None if temperature is None else check_number('ProtoLoss: temperature', temperature)
        self.gather = check_flag('ProtoLoss: gather', gather)

    @full_precision
    def forward(self, features: Tensor, student_centroids: Tensor, teacher_centroids: Tensor, labels: Tensor, *,
                logit_scale: Tensor | float | None = None) -> Tensor:
        self._check(features, student_centroids, teacher_centroids, labels)
        scores = (DEFAULT_LOGIT_SCALE if logit_scale is None else logit_scale) * features @ student_centroids.T
        counts = labels >= 0
        known = labels.clamp_min(0)
        if self.temperature is None or self.temperature <= 0:
            values = F.cross_entropy(scores, known, reduction='none')
        else:
            similarities = teacher_centroids[known] @ teacher_centroids.T  # (N, D) @ (D, K) -> (N, K)
            targets = F.softmax(similarities / self.temperature, 1)
            values = -(targets * F.log_softmax(scores, 1)).sum(1)
        return mean_over_processes(values, self.gather, counts.to(values.dtype))

    @torch.no_grad()
    def accuracy(self, features: Tensor, student_centroids: Tensor, labels: Tensor) -> Tensor:
        """Share of the labelled rows of this process that are most similar to the centroid of their cluster."""
        return self.hits(features, student_centroids, labels).sum() / (labels >= 0).sum().clamp_min(1)

    @torch.no_grad()
    @full_precision
    def hits(self, features: Tensor, student_centroids: Tensor, labels: Tensor) -> Tensor:
        """(N,) which rows are most similar to the centroid of their cluster."""
        return (features @ student_centroids.T).argmax(1) == labels

    def _check(self, features: Tensor, student_centroids: Tensor, teacher_centroids: Tensor, labels: Tensor) -> None:
        matrices = dict(features=features, student_centroids=student_centroids, teacher_centroids=teacher_centroids)
        shapes = {name: tuple(matrix.shape) for name, matrix in matrices.items()}
        if (any(len(shape) != 2 or shape[0] == 0 for shape in shapes.values())
                or features.shape[1] != student_centroids.shape[1] or len(student_centroids) != len(teacher_centroids)
                or labels.shape != features.shape[:1]):
            found = ', '.join(f'{name} {shape}' for name, shape in shapes.items())
            raise ValueError('ProtoLoss: expected features (N, D), student_centroids (K, D), teacher_centroids (K, E) '
                             f'and labels (N,), found {found}, labels {tuple(labels.shape)}.')

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}, gather={self.gather}'
