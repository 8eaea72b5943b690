"""Images of a split, prepared for a tower, again and again: kept in memory where they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clear.features.loading import image_batches

if TYPE_CHECKING:
    from clear.datasets.table import ImageTable
    from clear.models.towers.image.preprocess import Preprocess


class ShownImages:
    """Some rows of a table as a tower is shown them, always the same.

    Args:
        images: the table.
        preprocess: of the tower.
        memory_mb: prepared images are kept if all take no more than this; else they are read anew each time.
        num_workers: processes that read.
    """

    def __init__(self, images: ImageTable, preprocess: Preprocess, *, memory_mb: float = 1024, num_workers: int = 0):
        self.images, self.preprocess, self.num_workers = images, preprocess, num_workers
        self.is_kept = len(images) * 3 * preprocess.crop ** 2 * 4 <= memory_mb * 2**20
        self._kept: Tensor | None = None
        self.readable: list[int] = []

    def look(self, batch_size: int) -> list[int]:
        """Read all images once; the rows of those that can be read, ascending."""
        found, kept = [], []
        batches = [list(rows) for rows in torch.arange(len(self.images)).split(batch_size)]
        for batch in image_batches(self.images, self.preprocess, [[int(row) for row in rows] for rows in batches],
                                   num_workers=self.num_workers):
            found += [row for row in batch.rows if row not in batch.reasons]
            if self.is_kept:
                kept.append(batch.images)
        self._kept = torch.cat(kept) if self.is_kept else None
        self.readable = found
        return found

    def batches(self, rows: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """Images (B, 3, H, W) of each list of rows, which can all be read."""
        if self._kept is not None:
            for batch in rows:
                yield self._kept[list(batch)]
            return
        for batch in image_batches(self.images, self.preprocess, [list(batch) for batch in rows],
                                   num_workers=self.num_workers):
            yield batch.images
