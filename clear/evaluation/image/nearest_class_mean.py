"""Nearest class mean: no training, one prototype per class."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from clear.core.errors import ConfigError
from clear.evaluation.image.rows import ProbeData, read_splits
from clear.evaluation.task import TaskData, TaskResult, classification_metrics
from clear.registry import TASKS

DISTANCES = ('cosine', 'euclidean')


@TASKS.register_module()
class NearestClassMean:
    """Give every test row the class whose mean training feature is nearest (Mensink et al. 2013).

    Args:
        distance: 'cosine' compares directions: rows get unit length, then their class means. 'euclidean' takes the
            features as they are.

    Raises:
        ConfigError: for another distance.

    Example:
        >>> from clear.evaluation import LabelledRows, ProbeData
        >>> rows = LabelledRows(torch.eye(3).repeat(8, 1), torch.arange(3).repeat(8))
        >>> data = ProbeData(train=rows, test=rows, class_names=['cat', 'dog', 'owl'])
        >>> NearestClassMean().fit(data).value
        1.0
    """

    needs: ClassVar = ('bank',)
    splits: ClassVar = ('train', 'test')
    reads_labels: ClassVar = True

    def __init__(self, *, distance: str = 'cosine', device: str = 'cpu'):
        if distance not in DISTANCES:
            raise ConfigError(f'distance is {distance!r}; expected one of {", ".join(map(repr, DISTANCES))}.')
        self.distance, self.device = distance, device

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Classify 'test' by the class means of 'train'.

        Raises:
            DataError: for banks that do not make a task (see `read_splits`).
        """
        return self.fit(read_splits(data.bank, self.device))

    def fit(self, data: ProbeData) -> TaskResult:
        """The same on tensors."""
        scores = nearest_mean_scores(data.test.features, data.train.features, data.train.labels, data.num_classes,
                                     self.distance)
        metrics = classification_metrics(scores, data.test.labels)
        return TaskResult('top1', metrics['top1'], True, dict(metrics=metrics, **data.sizes()))


def nearest_mean_scores(queries: Tensor, features: Tensor, labels: Tensor, num_classes: int,
                        distance: str = 'cosine') -> Tensor:
    """Scores (Q, C), higher is nearer: the cosine, or minus half the squared distance up to a term per query.

    A class without samples scores -inf.
    """
    if distance == 'cosine':
        queries, features = functional.normalize(queries, dim=1), functional.normalize(features, dim=1)
    means, has_samples = class_means(features, labels, num_classes)
    if distance == 'cosine':
        scores = queries @ functional.normalize(means, dim=1).T
    else:
        # -|q - m|^2 / 2 = q.m - |m|^2 / 2 - |q|^2 / 2. Centred first: the difference of large squares loses digits.
        centre = means[has_samples].mean(0)
        scores = (queries - centre) @ (means - centre).T - (means - centre).square().sum(1) / 2
    return scores.masked_fill(~has_samples, -torch.inf)


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """(C, D) mean of each class, zeros for a class without samples; (C,) bool, which classes have some."""
    counts = torch.bincount(labels, minlength=num_classes)
    # float64: thousands of float32 rows are added up one by one.
    sums = torch.zeros(num_classes, features.shape[1], dtype=torch.float64, device=features.device)
    for rows, targets in zip(features.split(8192), labels.split(8192)):
        sums.index_add_(0, targets, rows.double())
    return (sums / counts.clamp(min=1)[:, None]).to(features.dtype), counts > 0
