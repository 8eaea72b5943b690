"""How well k-means clusters of features agree with the classes: AMI, NMI, ARI, accuracy by matching."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from clear.core.checks import check_choice, check_whole
from clear.core.errors import DataError
from clear.core.seeding import derive_seed
from clear.evaluation.image.rows import check_splits, class_names_of, read_rows, read_splits
from clear.evaluation.task import TaskData, TaskResult
from clear.features.kmeans.lloyd import KMeansFit, lloyd, mean_row, nearest_centre, squared_distances
from clear.registry import TASKS


@TASKS.register_module()
class Clustering:
    """Cluster features with k-means, without labels, and compare the clusters of 'test' with its classes.

    Of several restarts the one of the lowest inertia counts. The value is the adjusted mutual information; `metrics`
    also holds `nmi` (arithmetic mean), `ari`, and `accuracy` under the one-to-one matching of clusters and classes
    that fits 'test' best (Hungarian method), as is usual for clustering.

    Args:
        num_clusters: None for the number of classes that occur in the rows that are clustered.
        fit_on: 'train' finds the centres there and gives every test row its nearest; 'test' clusters the test rows
            themselves and needs no other bank.
        scale_to_unit: give every feature unit length first, so that distances follow cosines.

    Raises:
        ConfigError: for numbers that are not positive, or an unknown `fit_on`.

    Example:
        >>> features, labels = torch.eye(3).repeat(8, 1), torch.arange(3).repeat(8)
        >>> Clustering().fit(features, labels, features, labels).extras['metrics']['nmi']
        1.0
    """

    needs: ClassVar = ('bank',)
    splits: ClassVar = ('test',)
    reads_labels: ClassVar = True

    def __init__(self, *, num_clusters: int | None = None, restarts: int = 10, max_iterations: int = 300,
                 tolerance: float = 1e-4, fit_on: str = 'train', scale_to_unit: bool = True, seed: int = 0,
                 device: str = 'cpu'):
        check_choice('fit_on', fit_on, ('train', 'test'))
        self.num_clusters = num_clusters if num_clusters is None else check_whole('num_clusters', num_clusters, 1)
        self.options = dict(restarts=check_whole('restarts', restarts, 1), tolerance=tolerance,
                            max_iterations=check_whole('max_iterations', max_iterations, 1), seed=seed)
        self.fit_on, self.scale_to_unit, self.device = fit_on, scale_to_unit, device

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Cluster and compare.

        Raises:
            DataError: for banks that do not make a task (see `read_splits`), or fewer rows than clusters.
        """
        if self.fit_on == 'train':
            found = read_splits(data.bank, self.device)
            return self.fit(found.train.features, found.train.labels, found.test.features, found.test.labels)
        check_splits(data.bank, required=('test',))
        rows, _ = read_rows(data.bank['test'], 'test', self.device)
        class_names_of(data.bank['test'], rows.labels)
        return self.fit(rows.features, rows.labels, rows.features, rows.labels)

    def fit(self, features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor) -> TaskResult:
        """The same on tensors; `labels` only count the clusters."""
        if self.scale_to_unit:
            features, test_features = functional.normalize(features, dim=1), functional.normalize(test_features, dim=1)
        num_clusters = self.num_clusters or len(labels.unique())
        origin = mean_row(features)  # as in `k_means`, for the rows of 'test' too
        features, test_features = features - origin, test_features - origin
        found = k_means(features, num_clusters, **self.options)
        metrics = agreement(nearest_centre(test_features, found.centres)[0].cpu().numpy(), test_labels.cpu().numpy())
        extras = dict(metrics=metrics, num_clusters=num_clusters, inertia=found.inertia, iterations=found.iterations,
                      converged=found.converged, n_train=len(features), n_val=0, n_test=len(test_features))
        return TaskResult('ami', metrics['ami'], True, extras)


def k_means(features: Tensor, num_clusters: int, *, restarts: int = 10, max_iterations: int = 300,
            tolerance: float = 1e-4, seed: int = 0) -> KMeansFit:
    """Lloyd's algorithm from k-means++ centres; the restart of the lowest inertia.

    Args:
        features: (N, D), N >= num_clusters.
        tolerance: it stops when the summed squared shift of the centres is at most this, relative to the mean
            variance of the dimensions (as in scikit-learn).

    Raises:
        DataError: if there are fewer rows than clusters.
    """
    if len(features) < num_clusters:
        raise DataError(f'{num_clusters} clusters were asked for, but there are {len(features)} rows only.')
    origin = mean_row(features)
    features, fits = features - origin, []
    for restart in range(restarts):
        generator = torch.Generator().manual_seed(derive_seed(seed, 'k-means', restart))
        fits.append(lloyd(features, plus_plus_centres(features, num_clusters, generator), max_iterations, tolerance))
    best = min(fits, key=lambda fit: fit.inertia)
    return replace(best, centres=best.centres + origin)


def plus_plus_centres(features: Tensor, num_clusters: int, generator: torch.Generator) -> Tensor:
    """First centres by k-means++ (Arthur and Vassilvitskii 2007), greedy: the best of 2 + ln K draws each time."""
    trials = 2 + int(np.log(num_clusters))
    chosen = [int(torch.randint(len(features), (1,), generator=generator))]
    nearest = squared_distances(features, features[chosen]).squeeze(1)
    while len(chosen) < num_clusters:
        weights = nearest.double().cpu().cumsum(0)
        draws = torch.rand(trials, generator=generator, dtype=torch.float64) * weights[-1]
        rows = torch.searchsorted(weights, draws, right=True).clamp(max=len(features) - 1).to(features.device)
        candidates = torch.minimum(squared_distances(features, features[rows]), nearest[:, None])  # (N, trials)
        best = int(candidates.sum(0, dtype=torch.float64).argmin())
        chosen.append(int(rows[best]))
        nearest = candidates[:, best]
    return features[chosen]


def agreement(clusters: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`ami`, `nmi`, `ari` and `accuracy` of a clustering (N,) against classes (N,)."""
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score

    return dict(ami=float(adjusted_mutual_info_score(labels, clusters)),
                nmi=float(normalized_mutual_info_score(labels, clusters)),
                ari=float(adjusted_rand_score(labels, clusters)), accuracy=matched_accuracy(clusters, labels))


def matched_accuracy(clusters: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose cluster is matched to their class, under the best one-to-one matching (Kuhn 1955).

    Clusters beyond the number of classes stay unmatched; their rows count as wrong.
    """
    from scipy.optimize import linear_sum_assignment

    _, rows = np.unique(clusters, return_inverse=True)
    _, columns = np.unique(labels, return_inverse=True)
    counts = np.zeros((rows.max() + 1, columns.max() + 1), dtype=np.int64)
    np.add.at(counts, (rows, columns), 1)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels))
