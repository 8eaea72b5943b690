"""k-means on features, and what its clusters are in another modality."""

from clear.features.kmeans.fit import Clusters, fit_kmeans
from clear.features.kmeans.translation import back_translate

__all__ = ['Clusters', 'back_translate', 'fit_kmeans']
