"""Lloyd's iterations, in blocks of rows: the nearest centres, the means, and what becomes of an empty cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Blocks follow from the numbers of rows and centres alone: a block per thread would round differently on each machine.
_DISTANCES_PER_BLOCK = 2**21
_ROWS_PER_SUM = 8192

# (features, assigned, squared distances, number of centres) -> new centres
Update = Callable[[Tensor, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class KMeansFit:
    """Centres (K, D), the nearest of each row (N,), the sum of squared distances; how Lloyd's iterations ended."""

    centres: Tensor
    labels: Tensor
    inertia: float
    iterations: int
    converged: bool


def lloyd(features: Tensor, centres: Tensor, max_iterations: int = 300, tolerance: float = 1e-4,
          update: Update | None = None) -> KMeansFit:
    """Lloyd's iterations from the given centres (K, D).

    Args:
        tolerance: it stops when the summed squared shift of the centres is at most this, relative to the mean variance
            of the dimensions (as in scikit-learn).
        update: new centres from an assignment; by default means, and an empty cluster takes the row farthest from its
            centre.
    """
    update = update or means_or_far_rows
    threshold = tolerance * features.var(0, correction=0).mean().item()
    converged, iterations = False, 0
    assigned, distances = nearest_centre(features, centres)
    while iterations < max_iterations and not converged:
        iterations += 1
        moved = update(features, assigned, distances, len(centres))
        converged = (moved - centres).square().sum().item() <= threshold
        centres = moved
        assigned, distances = nearest_centre(features, centres)
    return KMeansFit(centres, assigned, distances.sum(dtype=torch.float64).item(), iterations, converged)


def means_or_far_rows(features: Tensor, assigned: Tensor, distances: Tensor, num_clusters: int) -> Tensor:
    """Means of the clusters; the rows farthest from their centres move to empty ones first."""
    empty = (torch.bincount(assigned, minlength=num_clusters) == 0).nonzero().squeeze(1)
    if len(empty):
        assigned = assigned.clone()
        assigned[distances.topk(len(empty)).indices] = empty
    # A row moved to an empty cluster may have been the last of its own: that one keeps a centre at zero weight.
    return cluster_means(features, assigned, num_clusters)[0]


def cluster_means(features: Tensor, labels: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """(K, D) mean of each cluster's rows, zero without any, summed in float64; (K,) number of rows."""
    sums = torch.zeros(num_clusters, features.shape[1], dtype=torch.float64, device=features.device)
    for rows, targets in zip(features.split(_ROWS_PER_SUM), labels.split(_ROWS_PER_SUM)):
        sums.index_add_(0, targets, rows.double())
    counts = torch.bincount(labels, minlength=num_clusters)
    return (sums / counts.clamp(min=1)[:, None]).to(features.dtype), counts


def nearest_centre(features: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) index of the nearest centre, the lower one of equals, and (N,) squared distance to it; in blocks of rows."""
    assigned, distances, norms = [], [], centres.square().sum(1)
    for rows in features.split(max(1, _DISTANCES_PER_BLOCK // len(centres))):
        nearest = torch.addmm(norms, rows, centres.T, alpha=-2).min(1)
        assigned.append(nearest.indices)
        distances.append((nearest.values + rows.square().sum(1)).clamp_(min=0))
    return torch.cat(assigned), torch.cat(distances)


def squared_distances(features: Tensor, centres: Tensor) -> Tensor:
    """(N, K), never below 0."""
    cross = features @ centres.T
    return (features.square().sum(1, keepdim=True) + centres.square().sum(1) - 2 * cross).clamp_(min=0)


def mean_row(features: Tensor) -> Tensor:
    """(D,) what is taken off all rows before distances: |x|^2 + |c|^2 - 2xc loses its float32 digits far from zero."""
    return features.mean(0, dtype=torch.float64).to(features.dtype)
