"""Labelled images in one tensor, for measuring an encoder while it trains: by kNN or a linear probe."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clear.core.errors import DataError
from clear.datasets.images.reader import ImageReader
from clear.datasets.images.resize import SquareDecoder
from clear.datasets.readers.bucket_lists import BucketChoice, is_clear_tree, read_buckets
from clear.datasets.readers.folder import read_class_folders
from clear.datasets.readers.image_files import existing_folder
from clear.datasets.table import ImageTable

logger = logging.getLogger('clear')


@dataclass(frozen=True, eq=False)
class EvaluationImages:
    """Labelled images of one size.

    Attributes:
        images: (N, 3, S, S) uint8 RGB.
        labels: (N,) int64 class indices.
        class_names: class index to name.
        ids: the path of each image below the data root.
        bad: images that could not be read and are left out, {id: reason}.
    """

    images: Tensor
    labels: Tensor
    class_names: list[str]
    ids: list[str]
    bad: dict[str, str]

    def __len__(self) -> int:
        return len(self.images)


def read_evaluation_images(data_root: str | Path, image_size: int, *, choice: BucketChoice | None = None,
                           per_class: int | None = None, interpolation: str = 'bilinear', decoder: str = 'pil'
                           ) -> EvaluationImages:
    """Read a folder `<class>/<image>`, or buckets of a labelled stream; shorter side resized, centre cut out.

    Args:
        image_size: side of the squares; memory is 3 * image_size**2 bytes per image.
        choice: which buckets and split; None reads class folders, and of a CLEAR tree the test images of all buckets.
        per_class: at most that many images of each class, spread evenly over its list; None takes all.
        interpolation, decoder: as for `SquareDecoder`.

    Raises:
        ConfigError: if an option or bucket is unknown.
        DataError: if data are missing, have no labels, or none can be read.
    """
    root = existing_folder(data_root)
    if choice is None and is_clear_tree(root):
        choice = BucketChoice(buckets=None, split='test')
    listed = _read_classes(root) if choice is None else read_buckets(root, choice)
    if 'label' not in listed:
        raise DataError(f'{root}: these images have no labels, so nothing can be measured on them. Expected '
                        '<class>/<image>, or buckets of a stream with classes.')
    labels, paths = listed.label_array(), listed.texts('path')
    rows = _spread(labels.tolist(), per_class)
    reader = ImageReader(root, paths, SquareDecoder(image_size, interpolation, decoder))
    images = torch.empty(len(rows), 3, image_size, image_size, dtype=torch.uint8)
    kept = []
    for row in rows:
        square = reader.find(row)
        if square is not None:
            images[len(kept)] = torch.from_numpy(square)
            kept.append(row)
    bad = {paths[row]: reason for row, reason in reader.bad.items()}
    if not kept:
        raise DataError(f'{root}: none of {len(rows)} images can be read. First: {next(iter(bad.items()))}.')
    if bad:
        logger.warning('%s: %d of %d images cannot be read and are left out of evaluation. First: %s.', root, len(bad),
                       len(rows), next(iter(bad.items())))
    return EvaluationImages(images[:len(kept)], torch.from_numpy(labels[kept]), list(listed.class_names),
                            [paths[row] for row in kept], bad)


def _read_classes(root: Path) -> ImageTable:
    images = read_class_folders(root)
    images = images.select(images.label_array() >= 0)
    if len(images.class_names) < 2:
        raise DataError(f'{root}: expected images in folders <class>/<image> of at least two classes, found '
                        f'{len(images.class_names)}.')
    return images


def _spread(labels: list[int], per_class: int | None) -> list[int]:
    """Rows in order, of each class at most `per_class`, at even distances."""
    if per_class is None:
        return list(range(len(labels)))
    chosen = []
    for label in sorted(set(labels)):
        rows = [row for row, each in enumerate(labels) if each == label]
        places = np.linspace(0, len(rows) - 1, min(per_class, len(rows))).round().astype(int)
        chosen += [rows[place] for place in places]
    return sorted(chosen)
