"""Which rows of a training set ELEVATER learns from, and which it holds out."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np

from clear.core.checks import check_number, check_whole
from clear.core.errors import DataError


def protocol_shots(n_shot: int) -> tuple[int, bool]:
    """How many shots are drawn for a run of `n_shot`, and whether its last training has the held-out part too.

    Of one shot nothing could be held out: ELEVATER draws two and trains on one of them to the end.
    """
    return (2, False) if check_whole('n_shot', n_shot, 1) == 1 else (n_shot, True)


def few_shot_rows(labels: Sequence[Sequence[int]], n: int, seed: int, num_classes: int | None = None) -> list[int]:
    """About `n` rows of every class, as ELEVATER draws them (vision-datasets, `sample_few_shot_subset`).

    The rows are shuffled by `random.Random(seed)` and taken one by one. A row whose labels all have `n` rows already is
    passed over; any other is taken if its rarest label has at most n / 2, or its commonest at most 1.5 n. The first
    rows without a label are taken too, up to `n` of them. It ends when every class has `n`. Where each row has one
    label these are the first `n` of each class in the shuffled order, or all of a class that has fewer.

    Args:
        labels: the class indices of each row, which may be none.
        num_classes: classes that no row has count as well, so that the drawing goes to the end; by default the largest
            index decides.

    Returns:
        rows in the order in which they were drawn, which is the index order of the smaller training set: what
        `validation_rows` holds out of it depends on that order.

    Raises:
        ConfigError: if `n` is no whole number from 1, or `seed` none.
        DataError: if a class index is negative or not below `num_classes`.
    """
    check_whole('n_shot', n, 1)
    check_whole('seed', seed)
    counts = [0] * _number_of_classes(labels, num_classes)
    order = list(range(len(labels)))
    random.Random(seed).shuffle(order)
    drawn, unlabelled = [], 0
    for row in order:
        if not len(labels[row]):
            if unlabelled < n:
                unlabelled += 1
                drawn.append(row)
            continue
        held = [counts[label] for label in labels[row]]
        if min(held) < n and (min(held) <= n / 2 or max(held) <= 1.5 * n):
            drawn.append(row)
            for label in labels[row]:
                counts[label] += 1
            if min(counts) >= n:
                break
    return drawn


def validation_rows(labels: Sequence[Sequence[int]], fraction: float = 0.2, num_classes: int | None = None
                    ) -> tuple[list[int], list[int]]:
    """The rows that stay, and those that ELEVATER holds out for the search: both ascending.

    Of a class of k rows, ceil(fraction k) are held out: where every row has one label the first of the class. Where a
    row may have several, the lowest class that still lacks some gives its first row that is not held out yet, which
    counts for all its labels, until no class lacks any. Rows without a label stay.

    Args:
        labels: the class indices of each row. If each has exactly one, the first rule holds; both then agree.

    Raises:
        ConfigError: if `fraction` is not between 0 and 1.
        DataError: if a class index is negative or not below `num_classes`.
    """
    check_number('val_fraction', fraction, above=0, below=1)
    rows_of: list[list[int]] = [[] for _ in range(_number_of_classes(labels, num_classes))]
    for row, own in enumerate(labels):
        for label in own:
            rows_of[label].append(row)
    # In floats, as there: 0.2 x 35 is above 7 in none of them, but other shares may round up.
    lacking = [math.ceil(len(rows) * fraction) for rows in rows_of]
    held: set[int] = set()
    for label, rows in enumerate(rows_of):
        for row in rows:
            if lacking[label] <= 0:
                break
            if row not in held:
                held.add(row)
                for other in labels[row]:
                    lacking[other] -= 1
    return [row for row in range(len(labels)) if row not in held], sorted(held)


def label_vectors(labels: Sequence[Sequence[int]], num_classes: int) -> np.ndarray:
    """(N, C) int8, 1 where a row has the class.

    Raises:
        DataError: if a class index is negative or not below `num_classes`.
    """
    _number_of_classes(labels, num_classes)
    vectors = np.zeros((len(labels), num_classes), np.int8)
    for row, own in enumerate(labels):
        vectors[row, list(own)] = 1
    return vectors


def _number_of_classes(labels: Sequence[Sequence[int]], num_classes: int | None) -> int:
    largest = max((label for own in labels for label in own), default=-1)
    lowest = min((label for own in labels for label in own), default=0)
    if lowest < 0:
        raise DataError(f'A row has the label {lowest}; expected class indices from 0. A row without a label has none.')
    if num_classes is not None and largest >= num_classes:
        raise DataError(f'A row has the label {largest}, but there are only {num_classes} classes.')
    return largest + 1 if num_classes is None else num_classes
