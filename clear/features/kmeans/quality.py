"""How good clusters are: apart from each other, dense, of even size, and of one class where classes are known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clear.core.errors import DataError
from clear.features.kmeans.fit import without_gaps
from clear.features.kmeans.lloyd import cluster_means, mean_row, squared_distances

_DISTANCES_PER_BLOCK = 2**21
_ROWS_PER_BLOCK = 8192


def cluster_metrics(features: Tensor, labels: Tensor, k: int, *, classes: Tensor | None = None,
                    silhouette_rows: int = 5000, seed: int = 0) -> dict[str, float]:
    """Numbers about the clusters of rows, by name.

    `silhouette` (of at most `silhouette_rows` rows, drawn by the seed), `davies_bouldin` and `calinski_harabasz` are
    those of scikit-learn, and are left out where they are not defined: below two clusters, or as many as rows.
    `purity` is the share of rows whose class is the most frequent one of their cluster. `num_empty` counts the clusters
    out of k without rows; `size_smallest`, `size_median` and `size_largest` are of those that have some.

    Args:
        features: (N, D); what is not finite counts as 0.
        labels: (N,) clusters, 0 ... k - 1.
        classes: (N,) class of each row, -1 where it is unknown; without any known there is no purity.

    Raises:
        DataError: if the lengths differ, or there are no rows.
    """
    if not len(features) or labels.shape != features.shape[:1] or (classes is not None and
                                                                   classes.shape != labels.shape):
        raise DataError(f'{len(features)} rows of features have labels of shape {tuple(labels.shape)}'
                        + ('.' if classes is None else f' and classes of shape {tuple(classes.shape)}.'))
    features = without_gaps(features.detach().float())[0]
    sizes = torch.bincount(labels, minlength=k)
    used = sizes[sizes > 0]
    found = {}
    if 2 <= len(used) < len(features):
        found |= separation(features, labels)
    rows = np.random.default_rng(seed).permutation(len(features))[:silhouette_rows]
    rows = torch.from_numpy(np.sort(rows)).to(features.device)
    if 2 <= len(labels[rows].unique()) < len(rows):
        from sklearn.metrics import silhouette_score

        found['silhouette'] = float(silhouette_score(features[rows].cpu().numpy(), labels[rows].cpu().numpy()))
    if classes is not None and (classes >= 0).any():
        found['purity'] = purity(labels[classes >= 0], classes[classes >= 0])
    return found | dict(num_empty=float(k - len(used)), size_smallest=float(used.min()),
                        size_median=float(used.double().quantile(0.5)), size_largest=float(used.max()))


def separation(features: Tensor, labels: Tensor) -> dict[str, float]:
    """`davies_bouldin` and `calinski_harabasz` of rows (N, D) in two to N - 1 clusters.

    scikit-learn's go over all rows once for each cluster, and hold all distances of centroids: hours and gigabytes for
    20,000 clusters. Here rows are summed once, and distances come in blocks.
    """
    _, labels = labels.unique(return_inverse=True)
    k = int(labels.max()) + 1
    features = (features - mean_row(features)).double()
    means, counts = cluster_means(features, labels, k)
    squares = torch.cat([(rows - means[own]).square().sum(1)
                         for rows, own in zip(features.split(_ROWS_PER_BLOCK), labels.split(_ROWS_PER_BLOCK))])
    within, centre = squares.sum(), features.mean(0)
    between = (counts * (means - centre).square().sum(1)).sum()
    ratio = float(between / within * (len(features) - k) / (k - 1)) if within > 0 else 1.0
    radii = means.new_zeros(k).index_add_(0, labels, squares.sqrt()) / counts
    return dict(davies_bouldin=_davies_bouldin(means, radii), calinski_harabasz=ratio)


def purity(labels: Tensor, classes: Tensor) -> float:
    """Share of rows whose class is the most frequent one of their cluster."""
    pairs, counts = torch.stack([labels, classes]).unique(dim=1, return_counts=True)
    most = counts.new_zeros(int(labels.max()) + 1).scatter_reduce_(0, pairs[0], counts, 'amax')
    return int(most.sum()) / len(labels)


def _davies_bouldin(means: Tensor, radii: Tensor) -> float:
    """Mean over clusters of the largest (r_i + r_j) / |c_i - c_j|; 0 where all radii or all distances are 0."""
    worst, is_apart = [], False
    for rows in torch.arange(len(means), device=means.device).split(max(1, _DISTANCES_PER_BLOCK // len(means))):
        distances = squared_distances(means[rows], means).sqrt_()
        distances[torch.arange(len(rows), device=means.device), rows] = 0
        is_apart |= bool((distances > 1e-8).any())
        ratios = (radii[rows, None] + radii) / distances
        worst.append(ratios.masked_fill_(distances == 0, 0).amax(1))
    return float(torch.cat(worst).mean()) if is_apart and bool((radii > 1e-8).any()) else 0.0
