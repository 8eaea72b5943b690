"""Classes that are numbers: 0 ... the largest of the training part."""

from __future__ import annotations

from collections.abc import Iterable

from clear.core.errors import DataError

MOST_CLASSES = 10_000  # a larger number is an error in a file: it would make a head of gigabytes


def count_names(counts: Iterable[int]) -> list[str]:
    """'0', '1' ... the largest count.

    Raises:
        DataError: if that is no sensible number of classes.
    """
    largest = max(counts)
    if largest >= MOST_CLASSES:
        raise DataError(f'The largest number in the training part is {largest}, that is {largest + 1} classes; at most '
                        f'{MOST_CLASSES} are read.')
    return [str(count) for count in range(largest + 1)]


def check_count(where: str, count: int, num_classes: int) -> int:
    """Refuse a number that no training image can have.

    Raises:
        DataError: naming the place.
    """
    if count >= num_classes:
        raise DataError(f'{where}: {count}, and the largest number in the training part is {num_classes - 1}.')
    return count
