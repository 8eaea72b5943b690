"""How a space shared by images and texts looks: spread, gap between the two, clusters, a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from clear.core.checks import check_flag, check_whole
from clear.core.errors import DataError
from clear.evaluation.image.clustering import k_means
from clear.evaluation.image.rows import check_features, check_splits, shuffled
from clear.evaluation.language.prompts import check_width
from clear.evaluation.metrics.feature_space import alignment, feature_std, modality_gap, self_similarity, uniformity
from clear.evaluation.task import TaskData, TaskResult
from clear.evaluation.text.encoding import TextReader
from clear.features.kmeans.lloyd import nearest_centre
from clear.features.kmeans.quality import cluster_metrics
from clear.features.kmeans.showing import LEAST_SPREAD, drawn_members, tsne
from clear.registry import TASKS

_MOST_CLUSTERS_SHOWN = 16
_MOST_MEMBERS_SHOWN = 16


@TASKS.register_module()
class FeatureAnalysis:
    """Describes the images of 'test' and the first caption of each, both made unit length.

    The metrics, see `clear.evaluation.metrics.feature_space`: `modality_gap`, which is the value, `alignment`,
    `image_avg_self_similarity`, `image_feature_std`, `image_uniformity`, and the last three of `text_`. With clusters
    also `cluster_silhouette`, `cluster_davies_bouldin`, `cluster_calinski_harabasz` and more of `cluster_metrics`, of
    k-means on the images. They describe a space: `higher_is_better` is said of the gap alone, and a smaller gap need
    not be a better model.

    Figures: maps of pairs by t-SNE, and for each cluster some images with their captions.

    Args:
        legacy: mean self-similarities over positive cosines and with each row's own, as ProtoCLIP reports them.
        num_clusters: None for no clusters.
        silhouette_rows: rows of the silhouette, which takes all pairs of them.
        tsne_rows: pairs on the maps, drawn by the seed; 0 for no maps.
        seed: of draws, clusters and maps.
        device: where the images lie while they are measured.

    Raises:
        ConfigError: for numbers that are out of range.

    Example:
        >>> images, texts = torch.eye(4)[:2], torch.eye(4)[2:]
        >>> round(FeatureAnalysis().measure(images, texts)['modality_gap'], 4)
        1.0
    """

    needs: ClassVar = ('bank', 'text', 'text_encoder')
    splits: ClassVar = ('test',)

    def __init__(self, *, legacy: bool = False, num_clusters: int | None = None, silhouette_rows: int = 5000,
                 tsne_rows: int = 1000, seed: int = 0, device: str = 'cpu'):
        self.legacy = check_flag('legacy', legacy)
        self.num_clusters = num_clusters if num_clusters is None else check_whole('num_clusters', num_clusters, 2)
        self.silhouette_rows = check_whole('silhouette_rows', silhouette_rows, 2)
        self.tsne_rows, self.seed, self.device = check_whole('tsne_rows', tsne_rows, 0), seed, device

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Describe 'test'.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for an image without caption, embeddings of two widths, of zeros or not finite, fewer than two
                images, or fewer than clusters.
        """
        check_splits(data.bank, required=('test',))
        encode = TextReader(encoder, type(self).__name__)
        bank = data.bank['test']
        rows = bank.subset_rows()
        images, labels = bank.tensors(rows)
        check_features(images, 'test')
        captions = first_captions(data.text['test'], rows.tolist())
        texts = encode(captions)
        check_width(texts, images)
        images, texts = (functional.normalize(each.to(self.device), dim=1) for each in (images, texts))
        metrics = self.measure(images, texts)
        extras = dict(n_test=len(images), definition='positive' if self.legacy else 'distinct', **encode.extras())
        clusters = None if self.num_clusters is None else self._clusters(images)
        figures = self._maps(images, texts, clusters)
        if clusters is not None:
            found = cluster_metrics(images, clusters, self.num_clusters, classes=labels.to(images.device),
                                    silhouette_rows=self.silhouette_rows, seed=self.seed)
            metrics |= {f'cluster_{name}': value for name, value in found.items()}
            figures['clusters'] = self._sheet(clusters, rows.tolist(), captions)
            extras['silhouette_rows'] = min(self.silhouette_rows, len(images))
        return TaskResult('modality_gap', metrics['modality_gap'], False,
                          dict(metrics=metrics, **extras, **({'figure_data': figures} if figures else {})))

    def measure(self, images: Tensor, texts: Tensor) -> dict[str, float]:
        """The metrics of pairs, images (N, D) and texts (N, D). Gap and standard deviation take them as they are.

        Raises:
            DataError: if they are no pairs, fewer than two, or one is of zeros.
        """
        definition = 'positive' if self.legacy else 'distinct'
        metrics = dict(modality_gap=modality_gap(images, texts), alignment=alignment(images, texts))
        for name, features in (('image', images), ('text', texts)):
            metrics |= {f'{name}_avg_self_similarity': self_similarity(features, definition),
                        f'{name}_feature_std': feature_std(features), f'{name}_uniformity': uniformity(features)}
        return metrics

    def _clusters(self, images: Tensor) -> Tensor:
        """(N,) the cluster of each image."""
        fit = k_means(images, self.num_clusters, seed=self.seed)
        return nearest_centre(images, fit.centres)[0]

    def _maps(self, images: Tensor, texts: Tensor, clusters: Tensor | None) -> dict[str, dict[str, object]]:
        """Images, by their clusters, texts, and both, in two dimensions."""
        chosen = shuffled(len(images), self.seed, 't-SNE')[:self.tsne_rows].sort().values.to(images.device)
        if len(chosen) < 5:
            return {}
        images, texts = images[chosen], texts[chosen]
        shown = ['image'] * len(images) if clusters is None else [
            f'cluster {cluster}' for cluster in clusters[chosen].tolist()]
        figures = {}
        for name, features, groups in (
                ('images and texts', torch.cat([images, texts]), ['image'] * len(images) + ['text'] * len(texts)),
                ('images', images, shown), ('texts', texts, ['text'] * len(texts))):
            if len(features.unique(dim=0)) < 5 or (features.amax(0) - features.amin(0)).max() < LEAST_SPREAD:
                continue  # of a tower that says the same of everything there is no map, but there are metrics
            # Euclidean distances of unit vectors: scikit-learn squares what metric='cosine' gives once more.
            points = tsne(features, self.seed)
            figures[f't-SNE of {name}'] = dict(kind='points', x=points[:, 0].tolist(), y=points[:, 1].tolist(),
                                               group=groups)
        return figures

    def _sheet(self, clusters: Tensor, rows: Sequence[int], captions: Sequence[str]) -> dict[str, object]:
        """Some images of some clusters, with captions, as rows of a bank."""
        members = drawn_members(clusters, _MOST_CLUSTERS_SHOWN, _MOST_MEMBERS_SHOWN, self.seed)
        return dict(kind='sheet', rows=[
            dict(title=f'cluster {cluster}', images=[rows[place] for place in places],
                 captions=[captions[place] for place in places]) for cluster, places in members.items()])


def first_captions(captions: Sequence[str | Sequence[str] | None], rows: Sequence[int]) -> list[str]:
    """The first caption of each of some images.

    Raises:
        DataError: for an image without one.
    """
    found = []
    for row in rows:
        own = captions[row]
        first = own if isinstance(own, str) else next(iter(own or ()), None)
        if first is None:
            raise DataError(f"Image {row} of 'test' has no caption.")
        found.append(first)
    return found
