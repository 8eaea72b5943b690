"""A time bucket of a stream: its images, a view of the table of all of them, or stored features in their place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from clear.core.errors import DataError
from clear.core.files import inside
from clear.datasets.columns import chunked_texts, runs
from clear.datasets.table import Cells, ImageTable


@dataclass(frozen=True, eq=False)
class Bucket:
    """The samples of one bucket in one part of a stream.

    Attributes:
        name: as on disk, e.g. '3'.
        images: one row per sample. In feature mode ids name the rows of a feature file, and paths are empty.
        features: (N, D) float32, contiguous, or None in image mode.
    """

    name: str
    images: ImageTable
    features: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def ids(self) -> Cells:
        """One per sample, unique over the stream: the image's relative path, or a name for a feature row."""
        return self.images.cells('id')

    @property
    def paths(self) -> Cells:
        """Image files relative to the data root; none in feature mode."""
        images = self.images if self.features is None else self.images.select(slice(0))
        return images.cells('path')

    @property
    def targets(self) -> np.ndarray:
        """(N,) int64 class indices, made anew each time that they are asked for."""
        return self.images.label_array()


def cut_buckets(images: ImageTable, sizes: Iterable[tuple[str, int]]) -> list[Bucket]:
    """A table as buckets that lie one after another in it, each a view.

    Args:
        sizes: name and number of images of each.
    """
    buckets, start = [], 0
    for name, count in sizes:
        buckets.append(Bucket(name, images.select(slice(start, start + count))))
        start += count
    return buckets


def in_one_table(buckets: Sequence[Bucket]) -> tuple[ImageTable, list[Bucket]]:
    """The images of several buckets of one root in one table, and the buckets as views of it.

    Raises:
        DataError: if an id is in two of them, as `ImageTable` says it.
    """
    first = buckets[0].images
    columns = dict(path=chunked_texts([bucket.images['path'] for bucket in buckets]),
                   label=np.concatenate([bucket.targets for bucket in buckets]),
                   bucket=runs((bucket.name, len(bucket)) for bucket in buckets))
    if buckets[0].features is not None:
        columns['id'] = chunked_texts([bucket.images['id'] for bucket in buckets])
    images = ImageTable.from_columns(first.root, columns, first.class_names)
    views = cut_buckets(images, ((bucket.name, len(bucket)) for bucket in buckets))
    return images, [Bucket(view.name, view.images, bucket.features) for view, bucket in zip(views, buckets)]


def check_first_images(root: Path, buckets: Iterable[Bucket], hint: str = '') -> None:
    """One look per bucket, which tells a half-extracted archive without asking for every image.

    Args:
        hint: what to do about it, for the end of the message.

    Raises:
        DataError: if the first image of a bucket is not there.
    """
    for bucket in buckets:
        for path in bucket.paths[:1]:
            if not inside(root, path).is_file():
                raise DataError(f"bucket {bucket.name}: its first image '{path}' is not in {root}. Is the data set "
                                f'only half there? {hint}'.rstrip())
