"""What the clusters of an episode are like, while a model trains on them: numbers for the log, and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from mmengine.hooks import Hook
from torch import Tensor

from clear.core.checks import check_flag, check_whole
from clear.core.errors import ConfigError, DataError
from clear.core.logs import logger
from clear.core.seeding import derive_seed
from clear.datasets.images.decode import UnreadableImage
from clear.features.episodes import PrototypeHook
from clear.features.kmeans.quality import cluster_metrics
from clear.features.kmeans.showing import drawn_members
from clear.registry import HOOKS
from clear.visualization.clusters import map_figure, samples_figure, sizes_figure
from clear.visualization.figures import write_figures

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from torch.utils.data import DataLoader

    from clear.datasets.table import ImageTable

FOLDER = 'clusters'


class TrainsOnClusters(Protocol):
    """What is asked of the Runner."""

    hooks: list[Hook]
    work_dir: str
    run_name: str
    epoch: int
    seed: int
    train_dataloader: DataLoader

    def add_measurements(self, values: dict[str, float]) -> None: ...


@HOOKS.register_module()
class ClusterFiguresHook(Hook):
    """Measure and draw the clusters that another hook (`PrototypeHook`) finds, as a `SeesClusters`.

    The numbers of `cluster_metrics` go into the log of the epoch as `clusters_<source>_<name>`, a source being 'image',
    'text' or 'external'; purity where the images have labels. Figures are
    `work_dir/figures/clusters/epoch_<n>_<source>_<samples|map|sizes>.png`: pictures of members, rows by t-SNE, sizes.
    All is drawn by the seed of the run.

    Args:
        interval: figures of every so many-th episode, the first one included; 0 for numbers alone.
        num_clusters, per_cluster: lines and columns of pictures.
        map_rows: t-SNE of the first rows of the episode, 20,000 of which take minutes; 0 for none.
        silhouette_rows: of how many rows the silhouette is computed.
        measure: whether numbers are logged.

    Raises:
        ConfigError: for numbers that are not positive, and before training if nothing is clustered.
    """

    priority = 'NORMAL'

    def __init__(self, interval: int = 10, num_clusters: int = 16, per_cluster: int = 16, map_rows: int = 20000,
                 silhouette_rows: int = 5000, measure: bool = True):
        for name, value, least in (('interval', interval, 0), ('num_clusters', num_clusters, 1),
                                   ('per_cluster', per_cluster, 1), ('map_rows', map_rows, 0),
                                   ('silhouette_rows', silhouette_rows, 2)):
            check_whole(f'ClusterFiguresHook.{name}', value, least)
        self.interval, self.num_clusters, self.per_cluster = interval, num_clusters, per_cluster
        self.map_rows, self.silhouette_rows = map_rows, silhouette_rows
        self.measure = check_flag('ClusterFiguresHook.measure', measure)

    def before_run(self, runner: TrainsOnClusters) -> None:
        if not any(isinstance(hook, PrototypeHook) for hook in runner.hooks):
            raise ConfigError("ClusterFiguresHook draws what a PrototypeHook clusters, and custom_hooks has none: "
                              "dict(type='PrototypeHook', ...).")

    def after_clustering(self, runner: TrainsOnClusters, features: Mapping[str, Tensor], labels: Mapping[str, Tensor],
                         draws: Tensor, num_clusters: int, episode: int) -> None:
        """See `SeesClusters`."""
        dataset = runner.train_dataloader.dataset
        rows = dataset.image_rows[draws.cpu().numpy()]
        seed = derive_seed('cluster figures', runner.seed, runner.epoch)
        if self.measure:
            classes, values = torch.from_numpy(dataset.labels[rows]).long(), {}
            for source, own in labels.items():
                found = cluster_metrics(features[source], own, num_clusters, classes=classes.to(own.device),
                                        silhouette_rows=self.silhouette_rows, seed=seed)
                values |= {f'clusters_{source}_{name}': value for name, value in found.items()}
            runner.add_measurements(values)
        if not self.interval or episode % self.interval:
            return
        try:
            for source, own in labels.items():
                heading = runner.run_name, f'clusters of {source}, epoch {runner.epoch + 1}'
                figures = dict(samples=self._samples(dataset.images, rows, own, heading, seed),
                               sizes=sizes_figure(own, num_clusters, *heading),
                               **self._map(features[source], own, heading, seed))
                write_figures({f'epoch_{runner.epoch + 1}_{source}_{name}': figure for name, figure in figures.items()},
                              Path(runner.work_dir) / 'figures' / FOLDER)
        except ImportError:
            logger.info('No figures of clusters: matplotlib is not installed.')

    def _samples(self, images: ImageTable, rows: np.ndarray, labels: Tensor, heading: tuple[str, str], seed: int
                 ) -> Figure:
        members = drawn_members(labels, self.num_clusters, self.per_cluster, seed)
        sizes = torch.bincount(labels).tolist()
        names = [f'{cluster}: {sizes[cluster]} rows, {images.captions(int(rows[own[0]]))[0]}'
                 for cluster, own in members.items()]
        return samples_figure(members, lambda place: _readable(images, int(rows[place])), names, *heading)

    def _map(self, features: Tensor, labels: Tensor, heading: tuple[str, str], seed: int) -> dict[str, Figure]:
        if not self.map_rows:
            return {}
        try:
            return dict(map=map_figure(features, labels, *heading, max_rows=self.map_rows, seed=seed))
        except DataError as error:
            logger.warning('%s: %s', heading[1], error)
            return {}


def _readable(images: ImageTable, row: int) -> Image | None:
    """None for what cannot be read; training has reported it."""
    try:
        return images.open_image(row)
    except UnreadableImage:
        return None
