"""Average precision of ranked scores, for tasks whose images show any number of classes."""

from __future__ import annotations

import numpy as np

METHODS = ('area', '11point')


def average_precision(scores: np.ndarray, targets: np.ndarray, method: str = 'area') -> float:
    """Average precision of one class; rows of equal score are one step of the ranking, so their order is irrelevant.

    Args:
        scores: (N,) higher is more likely.
        targets: (N,) 1 = positive, 0 = negative, -1 = left out.
        method: 'area' sums precision x growth of recall over the steps (scikit-learn's, and mmpretrain's
            `VOCAveragePrecision` where no scores are equal); '11point' is the mean over recalls 0, 0.1 ... 1 of the
            highest precision at that recall or a higher one, the measure of VOC 2007 (Everingham et al. 2010).

    Raises:
        ValueError: for other shapes or methods, scores that are not finite, or no positive (it has no precision).
    """
    if method not in METHODS:
        raise ValueError(f"method is '{method}', expected one of {METHODS}.")
    recall, precision = precision_recall(scores, targets)
    if method == 'area':
        return float(np.sum(np.diff(recall, prepend=0.0) * precision))
    # Recalls are k / positives: without the margin 0.3 would lie above 3 / 10.
    best = [precision[recall >= level - 1e-12].max(initial=0.0) for level in np.linspace(0, 1, 11)]
    return float(np.mean(best))


def precision_recall(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision after each distinct score, from the highest down, both float64.

    Raises:
        ValueError: as `average_precision` does.
    """
    scores, targets = np.asarray(scores, np.float64), np.asarray(targets)
    if scores.shape != targets.shape or scores.ndim != 1:
        raise ValueError(f'scores {scores.shape} and targets {targets.shape} should both be (N,).')
    if not np.isfinite(scores).all():
        raise ValueError('scores are not finite; a rank among them means nothing.')
    kept = targets >= 0
    scores, positive = scores[kept], targets[kept] > 0
    if not positive.any():
        raise ValueError('no target is positive, so there is no precision to average.')
    order = np.argsort(-scores, kind='stable')
    scores, hits = scores[order], positive[order].cumsum()
    is_last = np.append(scores[1:] != scores[:-1], True)  # of its group of equal scores
    hits, shown = hits[is_last], np.flatnonzero(is_last) + 1
    return hits / hits[-1], hits / shown


def mean_average_precision(scores: np.ndarray, targets: np.ndarray, method: str = 'area') -> tuple[float, np.ndarray]:
    """The mean over classes, and the average precision of each.

    Args:
        scores, targets: (N, C), as in `average_precision`.

    Raises:
        ValueError: naming the first class without a positive.
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    empty = np.flatnonzero(~(targets > 0).any(0))
    if len(empty):
        raise ValueError(f'class {empty[0]} has no positive target, so there is no precision to average.')
    each = np.array([average_precision(scores[:, i], targets[:, i], method) for i in range(targets.shape[1])])
    return float(each.mean()), each


def per_image_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean over images of the average precision of an image's classes, ranked by score.

    This is what CLSA's VOC evaluation prints as its mAP. It asks whether the right classes lead within one image and
    cannot be compared with the mean over classes. As there, -1 counts as negative. Images without a positive are
    left out.

    Args:
        scores, targets: (N, C).

    Raises:
        ValueError: if no image has a positive.
    """
    positive = (np.asarray(targets) > 0).astype(np.int8)
    rows = np.flatnonzero(positive.any(1))
    if not len(rows):
        raise ValueError('no image has a positive target, so there is no precision to average.')
    return float(np.mean([average_precision(np.asarray(scores)[row], positive[row]) for row in rows]))
