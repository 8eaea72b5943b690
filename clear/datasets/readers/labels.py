"""Classes as tables and lists write them: names, or numbers that may have gaps and may come as floats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from clear.core.errors import DataError


def read_labels(values: Iterable[object], where: str) -> list[int | str | None]:
    """Each cell as a whole number, a name, or None where it is empty.

    NaN is an empty cell, and a whole float a whole number: that is how pandas writes numbers beside empty cells.

    Args:
        where: what to call the column in a message.

    Raises:
        DataError: for a float that is not whole.
    """
    return [_read_label(value, where, row) for row, value in enumerate(values, start=1)]


def _read_label(value: object, where: str, row: int) -> int | str | None:
    if value is None or value == '' or value != value:
        return None
    if isinstance(value, float):
        if not (math.isfinite(value) and value.is_integer()):
            raise DataError(f'{where}, row {row}: label {value} is neither a class index nor a name.')
        return int(value)
    return int(value) if isinstance(value, int) else str(value)


def ordered_names(names: Iterable[str]) -> list[str]:
    """Different class names in the order of numbers if all are numbers, else of text."""
    names = set(names)
    # Python reads no number of thousands of digits; such names are sorted as text.
    are_numbers = all(name.isascii() and name.isdigit() and len(name) < 1000 for name in names)
    return sorted(names, key=(lambda name: (int(name), name)) if are_numbers else None)


def check_class_names(names: Iterable[str], where: str) -> None:
    """Refuse names of classes that are not UTF-8, as a folder's may be: results and reports cannot hold them; and two
    classes of one name, by which classes of different banks are matched.

    Raises:
        DataError: naming the first one.
    """
    seen: set[str] = set()
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f'{where}: the name of class {ascii(name)} is not UTF-8. Rename it.') from None
        if name in seen:
            raise DataError(f"{where}: two classes are called '{name}'; every class needs a name of its own.")
        seen.add(name)


def unique_names(names: Iterable[object]) -> list[str]:
    """Class names as text. One that is there before (ImageNet has two cranes) gets its index.

    Raises:
        DataError: if an earlier class is called just so.
    """
    unique: dict[str, None] = {}
    for index, name in enumerate(names):
        text = str(name)
        text = f'{text} #{index}' if text in unique else text
        if text in unique:
            raise DataError(f"Class {index} would be called '{text}', as an earlier one is. Rename one of them.")
        unique[text] = None
    return list(unique)


def names_before(unique: Sequence[str]) -> list[str]:
    """What `unique_names` was given: the index of a class goes if the rest is the name of an earlier class.

    All else behind a `#` belongs to the name, as in `Formation #3`.
    """
    names, seen = [], set()
    for index, name in enumerate(unique):
        before = name.removesuffix(f' #{index}')
        names.append(before if before in seen else name)
        seen.add(names[-1])
    return names


def class_indices(labels: Sequence[int | str | None], class_names: Sequence[str] | None, where: str
                  ) -> tuple[list[int], list[str]]:
    """Class indices, -1 where there is no label, and the names of the classes.

    Numbers are indices into `class_names`. Without these the classes are those that occur, named by their numbers:
    gaps make no classes, and what it takes does not follow the largest number. Names are sorted, or take the order of
    `class_names`.

    Raises:
        DataError: naming the row of a number or name that `class_names` does not have, or of a number below -1.
    """
    given = {label for label in labels if label is not None}
    are_numbers = all(isinstance(label, int) for label in given)
    if are_numbers:
        below = min(given, default=0)
        if below < -1:
            raise DataError(f'{where}, row {labels.index(below) + 1}: label {below}, expected a class index, or -1 for '
                            'no label.')
        numbers = sorted(given - {-1})
        of_label = {number: place for place, number in enumerate(numbers)} if class_names is None else \
            {number: number for number in numbers if number < len(class_names)}
        names = [str(number) for number in numbers] if class_names is None else list(class_names)
    else:
        names = sorted({str(label) for label in given}) if class_names is None else list(class_names)
        of_name = {name: place for place, name in enumerate(names)}
        of_label = {label: of_name[str(label)] for label in given if str(label) in of_name}
    of_label |= {None: -1} | ({-1: -1} if are_numbers else {})
    unknown = next((row for row, label in enumerate(labels) if label not in of_label), None)
    if unknown is not None:
        raise DataError(f"{where}, row {unknown + 1}: label '{labels[unknown]}' is none of the {len(names)} classes "
                        f"({', '.join(names[:5])}{' ...' if len(names) > 5 else ''}).")
    return [of_label[label] for label in labels], names
