"""The clusters of an episode: found in one process, the same in all, and kept with a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from clear.core import dist
from clear.core.errors import CheckpointError
from clear.core.seeding import derive_seed
from clear.features.kmeans import back_translate, fit_kmeans
from clear.models.alignment import ClusterTargets
from clear.models.alignment.image_text import TOWERS

OTHER = dict(image='text', text='image')


@dataclass(frozen=True)
class PrototypeSettings:
    """How clusters are made.

    Attributes:
        num_clusters, max_iter, restarts, backend: see `fit_kmeans`.
        back_translation: rows look for the mean of their own modality's features over the clusters of the other one,
            instead of the other one's centroids.
        modalities: images and texts are clustered.
        external: the rows of an external teacher are.
    """

    num_clusters: int
    max_iter: int
    restarts: int
    backend: str
    back_translation: bool
    modalities: bool
    external: bool

    @property
    def sources(self) -> list[str]:
        """What is clustered."""
        return [*(TOWERS if self.modalities else ()), *(['external'] if self.external else [])]

    def shapes(self, num_draws: int, width: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shape and type of each tensor of `Prototypes`."""
        centroids = (self.num_clusters, width), torch.float32
        found = {f'labels_{source}': ((num_draws,), torch.int64) for source in self.sources}
        if self.modalities:
            found |= {f'centroids_{side}': centroids for side in TOWERS}
            found |= {f'means_{side}': centroids for side in TOWERS if self.back_translation}
        return found | {f'means_external_{side}': centroids for side in TOWERS if self.external}


class Prototypes:
    """The clusters of an episode.

    Attributes:
        first_epoch: the epoch that the episode was drawn for.
        tensors: `labels_<source>`, the cluster of each draw; `centroids_<side>` of images and of texts; `means_<side>`,
            of that side's features over the other side's clusters; `means_external_<side>`, over the teacher's.
    """

    def __init__(self, first_epoch: int, tensors: dict[str, Tensor]):
        self.first_epoch, self.tensors = first_epoch, tensors

    @classmethod
    def find(cls, features: Mapping[str, Tensor], settings: PrototypeSettings, *, first_epoch: int, seed: int
             ) -> Prototypes:
        """Cluster in the first process; the others wait, as long as it takes, and get the same.

        Args:
            features: 'image' and 'text' (E, D), 'external' (E, D') where that is clustered, on one device.

        Raises:
            DataError, ConfigError: what `fit_kmeans` refuses.
        """
        image = features['image']
        tensors = {name: torch.empty(shape, dtype=dtype, device=image.device)
                   for name, (shape, dtype) in settings.shapes(*image.shape).items()}

        def cluster() -> None:
            for name, value in _clustered(features, settings, first_epoch, seed).items():
                tensors[name].copy_(value)

        with dist.patient_group() as group:
            dist.in_agreement(cluster if dist.is_main() else _nothing, group)
        dist.from_main(tensors.values())
        return cls(first_epoch, tensors)

    def targets(self) -> dict[str, ClusterTargets]:
        """What images and texts look for, see `ProtoCLIP.clusters`."""
        of, found = self.tensors, {}
        for side, other in OTHER.items():
            if f'labels_{other}' in of:
                teacher = of[f'centroids_{other}']
                found[side] = ClusterTargets(of[f'labels_{other}'], of.get(f'means_{side}', teacher), teacher)
            if 'labels_external' in of:
                means = of[f'means_external_{side}']
                found[f'external_{side}'] = ClusterTargets(of['labels_external'], means, means)
        return found

    def state(self) -> dict[str, int | dict[str, Tensor]]:
        """For a checkpoint."""
        return dict(first_epoch=self.first_epoch,
                    tensors={name: value.detach().cpu().clone() for name, value in self.tensors.items()})

    @classmethod
    def of_state(cls, state: object, shapes: Mapping[str, tuple[tuple[int, ...], torch.dtype]], device: torch.device
                 ) -> Prototypes:
        """What `state` said of itself.

        Raises:
            CheckpointError: if it is not of these shapes.
        """
        tensors = state.get('tensors') if isinstance(state, dict) else None
        if not isinstance(tensors, dict) or type(state.get('first_epoch')) is not int or {*tensors} != {*shapes}:
            raise CheckpointError('prototypes: not those of this config.')
        for name, (shape, dtype) in shapes.items():
            value = tensors[name]
            if not isinstance(value, Tensor) or tuple(value.shape) != shape or value.dtype != dtype:
                raise CheckpointError(f'prototypes.{name} is no {dtype} tensor of {shape}.')
        return cls(state['first_epoch'], {name: value.to(device) for name, value in tensors.items()})


def _nothing() -> None:
    pass


def _clustered(features: Mapping[str, Tensor], settings: PrototypeSettings, first_epoch: int, seed: int
               ) -> dict[str, Tensor]:
    found, k = {}, settings.num_clusters
    for source in settings.sources:
        clusters = fit_kmeans(features[source], k, max_iter=settings.max_iter, restarts=settings.restarts,
                              seed=derive_seed('clusters', seed, 0, first_epoch, source), backend=settings.backend)
        found[f'labels_{source}'] = labels = clusters.labels
        if source in OTHER:
            found[f'centroids_{source}'] = clusters.centroids
        for side in [OTHER[source]] if source in OTHER and settings.back_translation else \
                TOWERS if source == 'external' else ():
            name = f'means_{side}' if source in OTHER else f'means_external_{side}'
            found[name] = back_translate(features[side], labels, k)
    return found
