"""Several tables as one, and a part of a table."""

from __future__ import annotations

import bisect
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from clear.core.checks import check_number, check_whole
from clear.core.errors import ConfigError
from clear.datasets.fingerprints import bank_source_fingerprint
from clear.datasets.readers.build import read_images
from clear.datasets.table import ImageTable
from clear.registry import READERS


@READERS.register_module(name='Subset')
def subset(images: Mapping, max_rows: int | None = None, fraction: float | None = None, every: int | None = None
           ) -> ImageTable:
    """Some images of a reader, in their order.

    Args:
        images: `dict(type=READER, ...)`.
        max_rows: the first so many.
        fraction: the first share of them, rounded, at least one.
        every: the first of each so many: 25 of ImageNet, which is sorted by class, are ImageNet-50k.

    Raises:
        ConfigError: unless exactly one of the three is given, or if it is out of range.
    """
    given = dict(max_rows=max_rows, fraction=fraction, every=every)
    if sum(value is not None for value in given.values()) != 1:
        raise ConfigError(f'Subset takes one of max_rows, fraction and every; got {given}.')
    found = read_images(images, 'images')
    if every is not None:
        return found.select(slice(None, None, check_whole('every', every, 1)))
    if fraction is not None:
        max_rows = max(round(check_number('fraction', fraction, above=0, most=1) * len(found)), 1)
    return found.select(slice(check_whole('max_rows', max_rows, 1)))


@dataclass(frozen=True, eq=False)
class JoinedImages(ImageTable):
    """The images of `parts`, one table after the other; each opens its own."""

    parts: Sequence[ImageTable] = ()
    ends: Sequence[int] = ()  # of each part among the rows `place`

    def open_image(self, row: int) -> Image.Image:
        part, row = self._find(row)
        return part.open_image(row)

    def content(self, row: int) -> bytes | None:
        part, row = self._find(row)
        return part.content(row)

    @property
    def are_files(self) -> bool:
        return all(self.parts[home].are_files for home in np.unique(self._homes()))

    def fingerprint(self) -> str:
        """As of any table; where some images are no files, with the fingerprints of the parts, which know their own."""
        if self.are_files:
            return super().fingerprint()
        own = bank_source_fingerprint(self.cells('id'), self.label_array(), self.buckets(), self.class_names)
        places, homes = self['place'].to_numpy(), self._homes()
        parts = [self.parts[home].select(places[homes == home] - (self.ends[home - 1] if home else 0)).fingerprint()
                 for home in np.unique(homes)]
        return hashlib.sha256(json.dumps([own, *parts]).encode()).hexdigest()

    def _homes(self) -> np.ndarray:
        """(N,) the part that each image is of."""
        return np.searchsorted(self.ends, self['place'].to_numpy(), side='right')

    def _find(self, row: int) -> tuple[ImageTable, int]:
        place = self['place'][row].as_py()
        part = bisect.bisect_right(self.ends, place)
        return self.parts[part], place - (self.ends[part - 1] if part else 0)


@READERS.register_module(name='ConcatPairs')
def concat_pairs(parts: Sequence[Mapping], weights: Sequence[float] | None = None) -> ImageTable:
    """Several readers as one, each after the one before.

    Labels of a part are moved by the number of classes of the parts before it, where each image of a part without
    classes counts as one (as in ITRA); -1, which pairs without a class have, stays. Ids and class names begin with the
    number of the part. Buckets in time stay where all parts have the same, in the same order; of others the joint order
    would be a guess, and none are kept.

    Args:
        parts: list of `dict(type=READER, ...)`, all with captions or all without.
        weights: how much of an epoch is of each part, whatever its size; an epoch is then drawn with replacement (see
            `EpochSampler`). None takes each image once.

    Raises:
        ConfigError: for no parts, or weights that are not one positive number for each.
        DataError: for parts of which one has captions and another none.
    """
    if not isinstance(parts, (list, tuple)) or not parts:
        raise ConfigError(f'parts is {parts!r}; expected a list of dict(type=...).')
    tables = [read_images(part, f'parts[{place}]') for place, part in enumerate(parts)]
    if weights is not None:
        if not isinstance(weights, (list, tuple)) or len(weights) != len(tables):
            raise ConfigError(f'weights is {weights!r}; expected {len(tables)} numbers, one for each part.')
        for weight in weights:
            check_number('weights', weight, above=0)
    has_captions = any('caption' in table for table in tables)
    has_buckets = tables[0].bucket_names() and all(table.bucket_names() == tables[0].bucket_names() for table in tables)
    root = Path(os.path.commonpath([str(table.root) for table in tables]))
    columns: dict[str, list] = {name: [] for name in ('id', 'path', 'label')}
    captions, buckets, chances = [], [], []
    names: list[str] = []
    unnamed: list[str] = []  # images of parts without classes, which are classes only if a part with classes follows
    for place, table in enumerate(tables):
        below = table.root.relative_to(root).as_posix()
        columns['id'] += [f'{place}/{name}' for name in table.texts('id')]
        columns['path'] += [f'{below}/{path}' if path else '' for path in table.texts('path')]
        labels = table.label_array()
        if table.class_names:
            names += unnamed
            unnamed = []
        else:
            unnamed += columns['id'][-len(table):]
        columns['label'] += np.where(labels >= 0, labels + len(names), -1).tolist()
        names += [f'{place}/{name}' for name in table.class_names]
        if has_buckets:
            buckets += table.buckets()
        if has_captions:
            captions += [table.captions(row) for row in range(len(table))]  # DataError for a part without
        chances.append(np.full(len(table), weights[place] / len(table) if weights else 1.0))
    if has_captions:
        columns['caption'] = captions
    if has_buckets:
        columns['bucket'] = buckets
    if weights is not None:
        columns['weight'] = np.concatenate(chances)
    ends = np.cumsum([len(table) for table in tables]).tolist()
    columns['place'] = np.arange(ends[-1])
    return JoinedImages.from_columns(root, columns, names, name='_'.join(table.name for table in tables), parts=tables,
                                     ends=ends)
