"""k-means on features, how good the clusters are, and what they are in another modality."""

from clear.features.kmeans.fit import Clusters, fit_kmeans
from clear.features.kmeans.quality import cluster_metrics
from clear.features.kmeans.translation import back_translate

__all__ = ['Clusters', 'back_translate', 'cluster_metrics', 'fit_kmeans']
