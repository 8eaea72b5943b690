"""Train and test rows of a bucket, drawn per class from a seed: stratified splits and few-shot splits."""

from __future__ import annotations

import random
from collections.abc import Sequence

from clear.core.checks import check_number, check_whole
from clear.core.errors import DataError
from clear.core.seeding import derive_seed

Split = tuple[list[int], list[int]]  # rows of train, rows of test


def check_split_options(test_ratio: float, seed: int | None) -> None:
    """Raise ConfigError unless `test_ratio` is a share between 0 and 1 and `seed` a whole number of at least 0."""
    check_number('test_ratio', test_ratio, above=0, below=1)
    check_whole('seed', seed, 0)


def stratified_split(targets: Sequence[int], *, test_ratio: float, seed: int, bucket: str, legacy: bool = False
                     ) -> Split:
    """Rows of train and test, the share `test_ratio` of every class (rounded down) in test.

    A class of two images or more gives at least one to test; a single image is trained on. Each class has draws of
    its own, which follow from (seed, bucket, class): another bucket or class changes nothing here. Rows ascend.

    Args:
        targets: class index of each row.
        legacy: the permutation of CLEAR's helper script in place of that: one generator, seeded anew for every
            class, whose draws also order the two lists, and no image of a class for which the share rounds to 0.
    """
    check_split_options(test_ratio, seed)
    draws = random.Random(seed)
    train: list[int] = []
    test: list[int] = []
    for label, rows in _rows_of_classes(targets):
        count = int(len(rows) * test_ratio)
        if not legacy and count == 0 and len(rows) > 1:
            count = 1
        _shuffle(rows, draws, seed, ('split', bucket, label), legacy)
        test += rows[:count]
        train += rows[count:]
    return _ordered(train, test, draws, legacy)


def shuffled_split(count: int, *, test_ratio: float, seed: int) -> Split:
    """Rows of train and test as CLEAR published them: one order of all rows of a bucket, whose end is tested on.

    Not drawn per class. The generator starts anew for every bucket, so that buckets of one size share a permutation.

    Args:
        count: rows of the bucket, of which `int(count * test_ratio)` go to test.
    """
    check_split_options(test_ratio, seed)
    rows = list(range(count))
    random.Random(seed).shuffle(rows)
    num_train = count - int(count * test_ratio)
    return rows[:num_train], rows[num_train:]


def train_test_rows(targets: Sequence[int], *, test_ratio: float, seed: int, bucket: str, per_class: bool,
                    legacy: bool = False) -> Split:
    """The split of a bucket: drawn per class (`stratified_split`), or from all of its rows (`shuffled_split`)."""
    if per_class:
        return stratified_split(targets, test_ratio=test_ratio, seed=seed, bucket=bucket, legacy=legacy)
    return shuffled_split(len(targets), test_ratio=test_ratio, seed=seed)


def few_shot_split(targets: Sequence[int], *, shot: int, seed: int, bucket: str, class_names: Sequence[str],
                   legacy: bool = False) -> Split:
    """Rows of train, `shot` of every class, and of test, all others.

    Args:
        legacy: as for `stratified_split`; classes of equal size then get the same permutation.

    Raises:
        ConfigError: if `shot` or `seed` is no such number.
        DataError: if a class of the bucket has no more than `shot` images, so that none is left to test on.
    """
    check_whole('shot', shot, 1)
    check_split_options(0.5, seed)
    draws = random.Random(seed)
    train: list[int] = []
    test: list[int] = []
    for label, rows in _rows_of_classes(targets):
        if len(rows) <= shot:
            raise DataError(f"bucket {bucket}: class '{class_names[label]}' has {len(rows)} images; shot={shot} leaves "
                            f'none of them to test on. Use a shot of at most {len(rows) - 1}, or more images.')
        _shuffle(rows, draws, seed, ('shot', bucket, label), legacy)
        train += rows[:shot]
        test += rows[shot:]
    return _ordered(train, test, draws, legacy)


def _rows_of_classes(targets: Sequence[int]) -> list[tuple[int, list[int]]]:
    rows: dict[int, list[int]] = {}
    for row, target in enumerate(targets):
        rows.setdefault(int(target), []).append(row)
    return sorted(rows.items())


def _shuffle(rows: list[int], draws: random.Random, seed: int, purpose: tuple, legacy: bool) -> None:
    draws.seed(seed if legacy else derive_seed(seed, *purpose))
    draws.shuffle(rows)


def _ordered(train: list[int], test: list[int], draws: random.Random, legacy: bool) -> Split:
    if legacy:
        draws.shuffle(train)
        draws.shuffle(test)
        return train, test
    return sorted(train), sorted(test)
