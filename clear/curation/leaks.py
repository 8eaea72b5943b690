"""Leaks: test images that are copies of training images, and what they are worth in accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from clear.core.errors import DataError
from clear.curation.duplicates import (
    MAX_BITS,
    MAX_GRADIENT_BITS,
    Hashes,
    image_hashes,
    near_duplicates,
    near_features,
)
from clear.datasets.images.decode import UnreadableImage
from clear.datasets.table import ImageTable

NEIGHBOURS = 20
_BLOCK = 4096


@dataclass(frozen=True)
class Side:
    """Training or test images.

    Attributes:
        name: what reports call them.
        paths: (N,) text.
        moments: (N,) int: the place of each bucket in time; all 0 without buckets.
        buckets: names of the places.
        labels: (N,) class index, -1 = none.
        images: in the same order; None if there are features alone.
        features: (N, D), rows of zeros where an image could not be read; None if there are images alone.
    """

    name: str
    paths: np.ndarray
    moments: np.ndarray
    buckets: Sequence[str]
    labels: np.ndarray
    images: ImageTable | None = None
    features: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def of(self, rows: np.ndarray) -> Side:
        """Some of them."""
        return Side(self.name, self.paths[rows], self.moments[rows], self.buckets, self.labels[rows],
                    None if self.images is None else self.images.select(rows),
                    None if self.features is None else self.features[rows])


@dataclass(frozen=True)
class Likeness:
    """When two images are taken for copies: by hashes, by features, or by either.

    Attributes:
        hashes: whether images are compared by `near_duplicates`.
        min_cosine: of features; None = not by features.
        max_bits, max_gradient_bits: see `near_duplicates`.
    """

    hashes: bool = True
    min_cosine: float | None = None
    max_bits: int = MAX_BITS
    max_gradient_bits: int = MAX_GRADIENT_BITS


@dataclass(frozen=True)
class Leaks:
    """What was found.

    Attributes:
        pairs: (P, 2) row of a training image, row of a test image, sorted.
        by: (P,) 'hash', 'features' or 'both'.
        unreadable: images of either side that could not be read, and so are like none.
    """

    pairs: np.ndarray
    by: np.ndarray
    unreadable: int

    @property
    def test_rows(self) -> np.ndarray:
        """Rows of test images that have a copy in training."""
        return np.unique(self.pairs[:, 1])

    @property
    def train_rows(self) -> np.ndarray:
        """Rows of training images that have a copy in the test."""
        return np.unique(self.pairs[:, 0])

    def counts(self, train: Side, test: Side) -> np.ndarray:
        """(I, J) how many test images of a bucket have a copy in a training bucket."""
        found = np.zeros((len(train.buckets), len(test.buckets)), np.int64)
        cells = np.unique(np.column_stack([train.moments[self.pairs[:, 0]], self.pairs[:, 1]]), axis=0)
        np.add.at(found, (cells[:, 0], test.moments[cells[:, 1]]), 1)
        return found


def find_leaks(train: Side, test: Side, likeness: Likeness, order: str = 'any',
               report: Callable[[int], None] | None = None) -> Leaks:
    """Compare every training image with every test image.

    Only the hashes of the test side are held (256 bytes an image); training images pass by in blocks.

    Args:
        order: 'any', 'same_or_later' (the test image is of the training image's bucket or a later one) or 'later'.
        report: called with how many training images have been compared.

    Raises:
        DataError: if a side lacks what the likeness needs, features are of two sizes, or no image of a side can be
            read.
    """
    _check(train, test, likeness)
    hashes = image_hashes([])
    readable, unreadable = np.zeros(0, np.int64), 0
    if likeness.hashes:
        readable, hashes = _hashed(test)
        unreadable = len(test) - len(readable)
        _check_read(test, unreadable)
    found: list[np.ndarray] = [np.zeros((0, 3), np.int64)]
    for first in range(0, len(train), _BLOCK):
        block = train.of(np.arange(first, min(first + _BLOCK, len(train))))
        if likeness.hashes:
            rows, own = _hashed(block)
            unreadable += len(block) - len(rows)
            pairs = near_duplicates(own, hashes, likeness.max_bits, likeness.max_gradient_bits)
            found.append(_marked(rows[pairs[:, 0]] + first, readable[pairs[:, 1]], 1))
        if likeness.min_cosine is not None:
            pairs = near_features(block.features, test.features, likeness.min_cosine)
            found.append(_marked(pairs[:, 0] + first, pairs[:, 1], 2))
        if report is not None:
            report(first + len(block))
    if likeness.hashes:
        _check_read(train, unreadable - (len(test) - len(readable)))
    listed = np.concatenate(found)
    gap = test.moments[listed[:, 1]] - train.moments[listed[:, 0]]
    listed = listed[dict(any=np.ones(len(gap), bool), same_or_later=gap >= 0, later=gap > 0)[order]]
    pairs, where = np.unique(listed[:, :2], axis=0, return_inverse=True)
    marks = np.zeros(len(pairs), np.int64)
    np.bitwise_or.at(marks, where.reshape(-1), listed[:, 2])
    return Leaks(pairs, np.array(['', 'hash', 'features', 'both'])[marks], unreadable)


def _check_read(side: Side, unreadable: int) -> None:
    if unreadable == len(side) > 0:
        raise DataError(f'{side.name}: none of its images ({len(side)}) can be read, so that nothing can be '
                        f'compared. First: {side.paths[0]}')


def _check(train: Side, test: Side, likeness: Likeness) -> None:
    for side in (train, test):
        if likeness.hashes and side.images is None:
            raise DataError(f'{side.name} has features alone: name the folder of its images (--images), or compare '
                            'features alone (--no-hashes --min-cosine 0.95).')
        if likeness.min_cosine is not None and side.features is None:
            raise DataError(f'{side.name} has images alone: --min-cosine needs a feature bank.')
    if likeness.min_cosine is not None and train.features.shape[1] != test.features.shape[1]:
        raise DataError(f'{train.name} has features of size {train.features.shape[1]}, {test.name} of '
                        f'{test.features.shape[1]}: they are of two encoders.')


def _marked(rows: np.ndarray, others: np.ndarray, mark: int) -> np.ndarray:
    return np.column_stack([rows, others, np.full(len(rows), mark)])


def _hashed(side: Side) -> tuple[np.ndarray, Hashes]:
    """Rows of the images that can be read, and their hashes."""
    rows: list[int] = []
    hashes = image_hashes(_readable(side.images, rows))
    return np.array(rows, np.int64), hashes


def _readable(images: ImageTable, rows: list[int]) -> Iterator[Image.Image]:
    for row in range(len(images)):
        try:
            image = images.open_image(row)
        except UnreadableImage:
            continue
        rows.append(row)
        yield image


def knn_hits(train: Side, test: Side, leave_out_own: bool = False) -> np.ndarray:
    """(M,) bool: whether the class with the largest sum of cosines among 20 neighbours is a test image's own.

    Args:
        leave_out_own: the sides are the same images, and none is its own neighbour.

    Raises:
        DataError: if a side has no features or no labels.
    """
    for side in (train, test):
        if side.features is None or not (side.labels >= 0).any():
            raise DataError(f'{side.name} has no {"features" if side.features is None else "labels"}.')
    known = np.flatnonzero(train.labels >= 0)
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    hits = np.zeros(len(test), bool)
    for first in range(0, len(test), 256):
        rows = np.arange(first, min(first + 256, len(test)))
        best = np.full((len(rows), 0), -np.inf, np.float32)
        votes = np.zeros((len(rows), 0), np.int64)
        for start in range(0, len(known), _BLOCK):
            own = known[start:start + _BLOCK]
            cosines = _unit(test.features[rows]) @ _unit(train.features[own]).T
            if leave_out_own:
                cosines[rows[:, None] == own] = -np.inf
            best = np.concatenate([best, cosines], 1)
            votes = np.concatenate([votes, np.broadcast_to(train.labels[own], cosines.shape)], 1)
            kept = np.argsort(-best, 1, kind='stable')[:, :NEIGHBOURS]
            best, votes = np.take_along_axis(best, kept, 1), np.take_along_axis(votes, kept, 1)
        sums = np.zeros((len(rows), classes))
        np.add.at(sums, (np.arange(len(rows))[:, None], votes), np.where(np.isfinite(best), best, 0))
        hits[rows] = sums.argmax(1) == test.labels[rows]
    return hits


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)


@dataclass(frozen=True)
class Accuracy:
    """Of one test bucket after training through another, with and without the images that leaked.

    Attributes:
        through, bucket: names; `through` is empty where nothing is said of it.
        rows, right: all labelled test images.
        clean_rows, clean_right: those without a copy in training.
    """

    through: str
    bucket: str
    rows: int
    right: int
    clean_rows: int
    clean_right: int

    @property
    def with_leaks(self) -> float | None:
        return self.right / self.rows if self.rows else None

    @property
    def without(self) -> float | None:
        return self.clean_right / self.clean_rows if self.clean_rows else None


def accuracy_of(hits: np.ndarray, rows: np.ndarray, leaked: np.ndarray, through: str, bucket: str) -> Accuracy:
    """Count.

    Args:
        hits: (R,) whether each of `rows` is right.
        rows: (R,) test rows.
        leaked: test rows that leaked.
    """
    clean = ~np.isin(rows, leaked)
    return Accuracy(through, bucket, len(rows), int(hits.sum()), int(clean.sum()), int(hits[clean].sum()))


def knn_accuracies(train: Side, test: Side, leaks: Leaks, order: str) -> list[Accuracy]:
    """kNN on the bank: each training bucket against every test bucket that `order` allows.

    A test image counts as leaked for a training bucket if its copy is in that bucket. With 'any', all training images
    together against all test images; if both sides are one, no image is its own neighbour.
    """
    if order == 'any':
        labelled = np.flatnonzero(test.labels >= 0)
        is_one = train.features is test.features
        hits = knn_hits(train, test if is_one else test.of(labelled), is_one)
        return [accuracy_of(hits[labelled] if is_one else hits, labelled, leaks.test_rows, '', '')]
    found = []
    for first, through in enumerate(train.buckets):
        own = np.flatnonzero((train.moments == first) & (train.labels >= 0))
        for later in range(first + (order == 'later'), len(test.buckets)):
            rows = np.flatnonzero((test.moments == later) & (test.labels >= 0))
            if len(own) and len(rows):
                leaked = leaks.pairs[train.moments[leaks.pairs[:, 0]] == first, 1]
                hits = knn_hits(train.of(own), test.of(rows))
                found.append(accuracy_of(hits, rows, leaked, through, test.buckets[later]))
    return found
