"""What classes are taken for: answers by cosine, counted, and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clear.evaluation.metrics.similarity import unit_rows

if TYPE_CHECKING:
    from clear.core.types import Plain

MOST_SHOWN = 40
_ROWS = 2048


def answers(features: Tensor, vectors: Tensor, labels: Tensor) -> Tensor:
    """(N,) int64 the class whose vector (C, D) is most similar to each row (N, D).

    As in `classification_metrics`, a true class that another one equals has lost: the answer is that other one. So the
    share of answers that are right is `top1`.

    Args:
        labels: (N,) int64.

    Raises:
        ValueError: for a row that is not finite.
    """
    classes, found = unit_rows(vectors), []
    for rows, targets in zip(features.to(vectors.dtype).split(_ROWS), labels.split(_ROWS)):
        cosine = (unit_rows(rows) @ classes.T)[:len(rows), :len(vectors)]
        own = cosine.gather(1, targets[:, None])
        if len(vectors) > 1:
            rival = cosine.scatter(1, targets[:, None], -torch.inf).max(1)
            found.append(torch.where(rival.values >= own.squeeze(1), rival.indices, targets))
        else:
            found.append(targets)
    return torch.cat(found)


def confusion_matrix(found: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """(C, C) int64: how many rows of a class (first) were answered by another (second)."""
    counts = torch.bincount(labels * num_classes + found, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def confusion_data(matrix: Tensor, names: Sequence[str], most: int = MOST_SHOWN) -> dict[str, Plain]:
    """The entry of `figure_data` for a confusion matrix.

    Of more than `most` classes it holds those that are mistaken most often, either way, in their order; what falls
    outside them is left out.
    """
    if len(names) > most:
        wrong = matrix - matrix.diag().diag()
        order = (wrong.sum(0) + wrong.sum(1)).argsort(descending=True, stable=True)
        kept = order[:most].sort().values
        matrix, names = matrix[kept][:, kept], [names[place] for place in kept.tolist()]
    return dict(kind='confusion', matrix=matrix.tolist(), names=list(names))
