"""What a classifier of files is, whatever trained it, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

import torch

if TYPE_CHECKING:
    from PIL.Image import Image

# What a model takes of one image: a tensor, or what a pipeline of mmpretrain packs.
Sample: TypeAlias = 'torch.Tensor | dict[str, object]'


class Reader(Protocol):
    """Files to what the model takes; goes to the processes of a loader."""

    def read(self, path: str) -> list[Sample] | torch.Tensor:
        """The samples of a file: of an image one, of a file of features a row (N, D) for each.

        Raises:
            UnreadableImage: with the reason.
        """

    def prepare(self, image: Image) -> Sample:
        """The sample of an image in memory, RGB."""


class Classifier(Protocol):
    """A trained model with all that its input needs.

    Attributes:
        reader: reads files.
        reads_features: files are features, and images cannot be read.
        batch_size, num_workers: of the config's evaluation.
        device: of the model.
    """

    reader: Reader
    reads_features: bool
    batch_size: int
    num_workers: int
    device: torch.device

    def scores(self, samples: Sequence[Sample]) -> torch.Tensor:
        """(N, C) float32 on the CPU: the share of each class."""

    def class_names(self, num_classes: int) -> list[str]:
        """What the classes are called."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The likeliest classes of one image or feature.

    Attributes:
        path: its file, with `[row]` where that holds many; None of an image in memory.
        labels: names of classes, the likeliest first.
        indices: theirs.
        scores: theirs, shares of 1.
        image: what was given, where that was an image.
    """

    path: str | None
    labels: list[str]
    indices: list[int]
    scores: list[float]
    image: Image | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """The name of the likeliest class."""
        return self.labels[0]

    @property
    def score(self) -> float:
        """Its share."""
        return self.scores[0]


def in_groups(samples: Sequence[torch.Tensor]) -> list[list[int]]:
    """Positions of samples of one shape, which make a batch; where images are not resized they differ."""
    groups: dict[torch.Size, list[int]] = {}
    for place, sample in enumerate(samples):
        groups.setdefault(sample.shape, []).append(place)
    return list(groups.values())
