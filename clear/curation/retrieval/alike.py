"""Near-duplicates among candidates: of a group the earliest bucket, the higher score, the smaller id stays."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clear.core.checks import check_flag, check_number, check_whole
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError
from clear.curation.duplicates import (
    MAX_BITS,
    MAX_GRADIENT_BITS,
    Hashes,
    groups,
    image_hashes,
    near_duplicates,
    near_features,
)
from clear.curation.images import select_images
from clear.curation.retrieval.choice import Candidates
from clear.curation.retrieval.inputs import BucketFeatures
from clear.datasets.images.decode import UnreadableImage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

    from clear.core.types import Options
    from clear.curation.manifest import Finished
    from clear.datasets.table import ImageTable


@dataclass(frozen=True)
class NearDuplicates:
    """When two candidates are alike; groups are what is joined by pairs.

    Every pair of candidates counts: 160,000 of them (10 classes, q = 16,000) take minutes, by cosine or by hashes.

    Attributes:
        min_cosine: of their features; None = not by features.
        hashes: by perceptual hashes of the images, see `clear.curation.duplicates`; either is enough.
        across: also candidates of different buckets; all buckets are then done by one worker.
        max_bits, max_gradient_bits: see `near_duplicates`.

    Raises:
        ConfigError: if neither is asked for.
    """

    min_cosine: float | None = None
    hashes: bool = False
    across: bool = False
    max_bits: int = MAX_BITS
    max_gradient_bits: int = MAX_GRADIENT_BITS

    def __post_init__(self):
        if self.min_cosine is not None:
            check_number('near_duplicates.min_cosine', self.min_cosine, above=0, most=1)
        for name in ('hashes', 'across'):
            check_flag(f'near_duplicates.{name}', getattr(self, name))
        for name in ('max_bits', 'max_gradient_bits'):
            check_whole(f'near_duplicates.{name}', getattr(self, name), 0, 64)
        if self.min_cosine is None and not self.hashes:
            raise ConfigError('near_duplicates says neither min_cosine, such as 0.95, nor hashes=True.')

    @classmethod
    def of(cls, given: Options | None) -> NearDuplicates | None:
        """From a config."""
        if given is None:
            return None
        if not isinstance(given, Mapping):
            raise ConfigError(f'near_duplicates is {given!r}; expected a dict such as dict(min_cosine=0.95).')
        check_keys('near_duplicates', given, set(cls.__dataclass_fields__), 'near_duplicates')
        return cls(**given)

    def stays(self, pools: Sequence[Candidates], buckets: Sequence[BucketFeatures], images: Finished | None,
              spill: Path) -> list[np.ndarray]:
        """Of each bucket's candidates (M,) bool: whether they stay.

        Args:
            pools: candidates of buckets, in the order of time.
            buckets: where their features are.
            images: the stage that has the images, if hashes are asked for.
            spill: a folder for what may not fit into memory.
        """
        bucket, scores, ids, rows = _distinct(pools)
        pairs = []
        if self.min_cosine is not None and len(ids):
            spill.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=spill) as file:
                features = np.memmap(file, np.float32, 'w+', shape=(len(ids), max(each.dim for each in buckets)))
                for place, each in enumerate(buckets):
                    each.read(rows, features, np.flatnonzero(bucket == place))
                pairs.append(near_features(features, min_cosine=self.min_cosine))
                del features
        if self.hashes and len(ids):
            places, hashes = _hashes(images, buckets, bucket, ids)
            pairs.append(places[near_duplicates(hashes, None, self.max_bits, self.max_gradient_bits)])
        found = groups(np.concatenate(pairs) if pairs else np.zeros((0, 2), np.int64), len(ids))
        gone = found != np.arange(len(ids))
        return [~np.isin(pool.ids, ids[gone & (bucket == place)]) for place, pool in enumerate(pools)]


def _distinct(pools: Sequence[Candidates]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(bucket, highest score, id, row) of every image once, in the order in which they stay."""
    bucket = np.repeat(np.arange(len(pools)), [len(pool) for pool in pools])
    scores, ids, rows = (np.concatenate([getattr(pool, name) for pool in pools]) for name in ('scores', 'ids', 'rows'))
    order = np.lexsort((-scores, ids, bucket))
    is_first = np.ones(len(order), bool)
    is_first[1:] = (ids[order][1:] != ids[order][:-1]) | (bucket[order][1:] != bucket[order][:-1])
    order = order[is_first]
    order = order[np.lexsort((ids[order], -scores[order], bucket[order]))]
    return bucket[order], scores[order], ids[order], rows[order]


def _hashes(images: Finished, buckets: Sequence[BucketFeatures], bucket: np.ndarray, ids: np.ndarray
            ) -> tuple[np.ndarray, Hashes]:
    """Places of the images that can be read, and their hashes, in that order."""
    places, parts = [], []
    for number, each in enumerate(buckets):
        own = np.flatnonzero(bucket == number)
        if not len(own):
            continue
        own = own[np.argsort(ids[own], kind='stable')]
        table = select_images(images, [each.name], ids[own], np.zeros(len(own), np.int32))
        there = np.array([int(text) for text in table.texts('id')], np.int64)
        read: list[int] = []
        parts.append(image_hashes(_readable(table, read)))
        places.append(own[np.searchsorted(ids[own], there[read])])
    places = np.concatenate(places)
    order = np.argsort(places, kind='stable')
    return places[order], Hashes.joined(parts)[order]


def _readable(table: ImageTable, read: list[int]) -> Iterator[Image.Image]:
    for row in range(len(table)):
        try:
            image = table.open_image(row)
        except UnreadableImage:  # is like none
            continue
        read.append(row)
        yield image
