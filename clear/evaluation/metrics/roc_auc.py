"""Area under the receiver operating characteristic."""

from __future__ import annotations

import numpy as np


def roc_auc(scores: np.ndarray, targets: np.ndarray) -> float:
    """The probability that a positive has a higher score than a negative, an equal one counting half.

    Args:
        scores: (N,) higher is more likely.
        targets: (N,) 1 = positive, 0 = negative, -1 = left out.

    Raises:
        ValueError: for other shapes, scores that are NaN, or only one of the two kinds.
    """
    from scipy.stats import rankdata

    scores, targets = np.asarray(scores, np.float64), np.asarray(targets)
    if scores.shape != targets.shape or scores.ndim != 1:
        raise ValueError(f'scores {scores.shape} and targets {targets.shape} should both be (N,).')
    if np.isnan(scores).any():
        raise ValueError('scores hold NaN; a rank among them means nothing.')
    scores, positive = scores[targets >= 0], targets[targets >= 0] > 0
    n_pos = int(positive.sum())
    n_neg = len(positive) - n_pos
    if not n_pos or not n_neg:
        raise ValueError(f'{n_pos} positive and {n_neg} negative targets; ROC AUC compares one kind with the other.')
    rank_sum = rankdata(scores)[positive].sum()  # equal scores share the mean of their ranks
    return float((rank_sum - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))
