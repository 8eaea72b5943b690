"""What can be shown of clusters: some of their members, and a map of the rows."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from clear.core.errors import DataError
from clear.core.seeding import derive_seed
from clear.features.kmeans.fit import without_gaps

# Rows that differ by less in every dimension are the same but for rounding.
LEAST_SPREAD = 1e-6


def drawn_members(labels: Tensor, num_clusters: int = 16, per_cluster: int = 16, seed: int = 0
                  ) -> dict[int, np.ndarray]:
    """Cluster -> some of its rows, of some clusters, the largest first; drawn by the seed, rows in ascending order."""
    labels = labels.cpu().numpy()
    generator = np.random.default_rng(derive_seed('cluster members', seed))
    names, sizes = np.unique(labels, return_counts=True)
    chosen = generator.permutation(len(names))[:num_clusters]
    chosen = chosen[np.lexsort((names[chosen], -sizes[chosen]))]
    return {int(names[place]): np.sort(generator.permutation(np.flatnonzero(labels == names[place]))[:per_cluster])
            for place in chosen}


def tsne(features: Tensor, seed: int = 0) -> np.ndarray:
    """(N, 2) by scikit-learn's t-SNE from the first two principal components, with a perplexity of 30 at most.

    Raises:
        DataError: for fewer than five rows, or rows that are all the same.
    """
    rows = without_gaps(features.detach().float())[0].cpu().numpy()
    if len(rows) < 5 or np.ptp(rows, axis=0).max() < LEAST_SPREAD:
        raise DataError(f'No map of {len(rows)} rows' + (': all are the same.' if len(rows) >= 5 else '.'))
    from sklearn.manifold import TSNE

    init = 'pca' if rows.shape[1] > 1 else 'random'
    return TSNE(2, perplexity=min(30.0, (len(rows) - 1) / 3), init=init, random_state=seed % 2**32).fit_transform(rows)
