"""The four metrics of ELEVATER, for one table of probabilities or the logits of many heads."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clear.core.checks import check_choice
from clear.evaluation.elevater.sets import METRICS
from clear.evaluation.metrics.average_precision import average_precision
from clear.evaluation.metrics.roc_auc import roc_auc


def score_heads(metric: str, logits: Tensor, targets: Tensor) -> Tensor:
    """(G,) float64: the metric of each head; 0 where logits are not finite or the metric is not defined.

    The true class stands behind all of equal score. `mean_per_class` is over the classes that occur, and no other class
    is a rival there: the library that the toolkit measures by drops the scores of classes without an image before it
    looks for the highest. `map_11point` is over classes with a positive; `roc_auc`, of two classes, and `map_11point`
    are of softmax probabilities, also where an image may show several classes, as the toolkit has it.

    Args:
        metric: one of `METRICS`.
        logits: (G, C, N).
        targets: (N,) int64, or (N, C) of 0 and 1 for 'map_11point'.
    """
    check_choice('metric', metric, METRICS)
    finite = logits.amax(1).isfinite().all(1)  # of the highest of each row, as softmax has it; NaN where any is
    if metric == 'top1':
        found = _hits(logits, targets).mean(1)
    elif metric == 'mean_per_class':
        present, targets, counts = targets.unique(return_inverse=True, return_counts=True)
        hits = _hits(logits[:, present], targets)
        found = (hits.new_zeros(len(hits), len(present)).index_add_(1, targets, hits) / counts).mean(1)
    else:
        found = torch.tensor([_of_table(metric, table.T.double().softmax(1), targets) if good else 0.0
                              for table, good in zip(logits, finite)], dtype=torch.float64, device=logits.device)
    return found.masked_fill(~finite | found.isnan(), 0.0)


def score_probabilities(metric: str, probabilities: Tensor, targets: Tensor) -> float:
    """The metric of one table of probabilities (N, C); see `score_heads`.

    Raises:
        ValueError: if it is not defined, as ROC AUC of a single class.
    """
    check_choice('metric', metric, METRICS)
    if metric in ('top1', 'mean_per_class'):
        return float(score_heads(metric, probabilities.T[None], targets))
    found = _of_table(metric, probabilities.double(), targets)
    if np.isnan(found):
        raise ValueError(f'{metric} is not defined here: it compares images of a class with others.')
    return found


def _hits(logits: Tensor, targets: Tensor) -> Tensor:
    """(G, N) float64: 1 where the true class alone has the highest score of (G, C, N)."""
    index = targets.view(1, 1, -1).expand(len(logits), 1, -1)
    own = logits.gather(1, index).squeeze(1)
    return (own > logits.scatter(1, index, -torch.inf).amax(1)).double()


def _of_table(metric: str, probabilities: Tensor, targets: Tensor) -> float:
    """NaN where the metric is not defined."""
    table, truth = probabilities.cpu().numpy(), targets.cpu().numpy()
    if metric == 'roc_auc':
        return roc_auc(table[:, 1], truth) if table.shape[1] == len(np.unique(truth)) == 2 else float('nan')
    each = [average_precision(table[:, column], truth[:, column], '11point')
            for column in np.flatnonzero((truth > 0).any(0))]
    return float(np.mean(each)) if each else float('nan')
