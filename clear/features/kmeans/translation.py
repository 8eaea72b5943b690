"""Prototypical back translation: clusters found in one modality, told by the features of the other."""

from __future__ import annotations

from torch import Tensor

from clear.core.errors import DataError
from clear.features.kmeans.fit import without_gaps
from clear.features.kmeans.lloyd import cluster_means


def back_translate(features: Tensor, labels: Tensor, k: int) -> Tensor:
    """Mean of each cluster's features in another modality than that it was found in (ProtoCLIP, arXiv:2206.10996).

    The means are not normalised, and a cluster without rows is a row of zeros. What is not finite counts as 0.

    Args:
        features: (N, D) of the other modality, in the order of `labels`.
        labels: (N,) clusters, 0 ... k - 1; a row of -1 belongs to none.

    Returns:
        (k, D) of the features' type.

    Raises:
        DataError: for a label outside that range, or another number of labels than of rows.
    """
    if labels.shape != features.shape[:1]:
        raise DataError(f'{len(features)} rows of features have labels of shape {tuple(labels.shape)}.')
    if len(labels) and not -1 <= int(labels.min()) <= int(labels.max()) < k:
        raise DataError(f'Labels of {k} clusters go from 0 to {k - 1} (-1: none); these go from {int(labels.min())} to '
                        f'{int(labels.max())}.')
    is_member = labels >= 0
    return cluster_means(without_gaps(features[is_member])[0], labels[is_member], k)[0]
