"""The single files of a CLEAR tree, each read strictly: class names, file lists, index lists, features."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from clear.core.errors import CheckpointError, DataError
from clear.core.files import inside, load_tensors, read_json, read_text
from clear.core.storage.tensor_files import Record
from clear.datasets.readers.image_files import plain_path

Read = TypeVar('Read')


def read_class_names(path: Path) -> list[str]:
    """Class names, one per line; the line number is the class index. Blank lines at the end do not count.

    Raises:
        DataError: if a name is blank or given twice, or there is none.
    """
    names = [line.strip() for line in read_text(path).rstrip().split('\n')]
    first: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name:
            raise DataError(f'{path}:{number}: a blank line, expected a class name (the line is the class index).')
        if name in first:
            raise DataError(f"{path}:{number}: class '{name}' is already on line {first[name]}.")
        first[name] = number
    return names


def numeric_order(names: list[str], source: Path) -> list[str]:
    """Bucket names in the order of their numbers: '2' before '10'.

    Raises:
        DataError: if a name is no number, or two are the same number, or there is none.
    """
    if not names:
        raise DataError(f'{source}: no buckets.')
    wrong = [name for name in names if not (name.isascii() and name.isdigit() and len(name) < 20)]
    if wrong:
        raise DataError(f"{source}: bucket '{wrong[0]}' is not a number; buckets are ordered by number.")
    ordered = sorted(names, key=int)
    for one, two in zip(ordered, ordered[1:]):
        if int(one) == int(two):
            raise DataError(f"{source}: buckets '{one}' and '{two}' have the same number.")
    return ordered


def read_file_list(path: Path, root: Path, num_classes: int) -> tuple[list[str], np.ndarray]:
    """Relative paths and class indices (N,) int64 from lines `<relative path> <class index>`.

    A path may hold spaces: the index is what follows the last one. Blank lines are skipped.

    Raises:
        DataError: naming file and line, if a line is malformed, leaves `root`, repeats a path or names a class
            that does not exist; or if the list is empty.
    """
    paths, targets, first = [], [], {}
    for number, line in enumerate(read_text(path).split('\n'), start=1):
        if not line.strip():
            continue
        name, target = _split_line(line, path, number)
        if not 0 <= target < num_classes:
            raise DataError(f'{path}:{number}: class index {target} is outside 0 ... {num_classes - 1}.')
        earlier = first.setdefault(plain_path(name), number)
        if earlier != number:
            raise DataError(f"{path}:{number}: '{name}' is already on line {earlier}.")
        # Normalising every path is the slow part of reading a list; only these two kinds can leave the root.
        if name.startswith('/') or '..' in name:
            if name.startswith('/'):
                raise DataError(f"{path}:{number}: '{name}' is absolute; paths are relative to the data root.")
            _at(path, number, inside, root, name)
        paths.append(name)
        targets.append(target)
    if not paths:
        raise DataError(f'{path} is empty: the bucket has no images.')
    return paths, np.array(targets, dtype=np.int64)


def read_indices(path: Path, count: int, source: Path) -> np.ndarray:
    """Rows (M,) int64 of a feature file with `count` rows, from a JSON list.

    Raises:
        DataError: if the list is empty, holds anything but row numbers, or names a row twice.
    """
    rows = read_json(path)
    if not isinstance(rows, list) or not all(type(row) is int for row in rows):
        raise DataError(f'{path}: expected a list of row numbers, found {str(rows)[:80]}.')
    if not rows:
        raise DataError(f'{path} is empty: the bucket has no samples.')
    for position, row in enumerate(rows):
        if not 0 <= row < count:
            raise DataError(f'{path}: entry {position} is row {row}, but {source} has {count} rows.')
    if len(set(rows)) != len(rows):
        raise DataError(f'{path}: {len(rows) - len(set(rows))} rows are listed twice.')
    return np.array(rows, dtype=np.int64)


def read_feature_file(path: Path, num_classes: int) -> tuple[torch.Tensor, np.ndarray]:
    """Features (N, D) float32 and class indices (N,) int64 of an `all.pth`.

    Holds a pair (tensor or list of row tensors, list or tensor of class indices).

    Raises:
        DataError: if the file is damaged or is not such a pair.
    """
    value = _load(path)
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise DataError(f'{path}: expected (features, class indices), found {type(value).__name__}.')
    features = _as_matrix(value[0], path)
    targets = value[1].tolist() if isinstance(value[1], torch.Tensor) else value[1]
    if not isinstance(targets, (list, tuple)):
        raise DataError(f'{path}: expected class indices as a list or tensor, found {type(targets).__name__}.')
    if len(targets) != len(features):
        raise DataError(f'{path}: {len(features)} feature rows, but {len(targets)} class indices.')
    if not targets:
        raise DataError(f'{path} is empty: the bucket has no samples.')
    for row, target in enumerate(targets):
        if type(target) is not int or not 0 <= target < num_classes:
            raise DataError(f'{path}: row {row} has class index {target!r}, expected 0 ... {num_classes - 1}.')
    return features, np.array(targets, dtype=np.int64)


def stack_rows(path: Path) -> tuple[list[str], torch.Tensor]:
    """Ids and features (N, D) float32 of a file `{id: Tensor (D,)}`, in the order of the file.

    Raises:
        DataError: if the file is damaged or holds anything else.
    """
    value = _load(path)
    if not isinstance(value, dict):
        raise DataError(f'{path}: expected {{id: tensor}}, found {type(value).__name__}.')
    return [str(key) for key in value], _as_matrix(list(value.values()), path)


def _kind(value: object) -> str:
    return 'an object of NumPy or another library; save tensors' if isinstance(value, Record) else type(value).__name__


def _as_matrix(value: object, path: Path) -> torch.Tensor:
    if isinstance(value, (list, tuple)):
        if not all(isinstance(row, torch.Tensor) and row.ndim == 1 for row in value):
            raise DataError(f'{path}: expected features as rows of shape (D,).')
        if len({len(row) for row in value}) > 1:
            raise DataError(f'{path}: features of different widths, {sorted({len(row) for row in value})}.')
        value = torch.stack(list(value)) if value else torch.zeros(0, 0)
    if not isinstance(value, torch.Tensor) or value.ndim != 2:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else _kind(value)
        raise DataError(f'{path}: expected features of shape (N, D), found {shape}.')
    if value.is_complex():
        raise DataError(f'{path}: features are complex numbers.')
    value = value.detach().to(torch.float32).contiguous()
    # A sum is finite only if all of its terms are, and takes a fraction of the time of looking at each.
    bad = () if torch.isfinite(value.sum()) else (~torch.isfinite(value).all(dim=1)).nonzero()
    if len(bad):
        raise DataError(f'{path}: {len(bad)} feature rows hold NaN or infinity, first row {int(bad[0])}.')
    return value


def _load(path: Path) -> Any:
    try:
        return load_tensors(path)
    except CheckpointError as error:
        raise DataError(f'Features: {error}') from error


def _split_line(line: str, path: Path, number: int) -> tuple[str, int]:
    fields: Iterable[str] = line.strip().rsplit(maxsplit=1)
    try:
        name, target = fields
        return name, int(target)
    except ValueError:
        raise DataError(f"{path}:{number}: expected '<relative path> <class index>', found '{line[:80]}'.") from None


def _at(path: Path, number: int, function: Callable[..., Read], *args: object) -> Read:
    try:
        return function(*args)
    except DataError as error:
        raise DataError(f'{path}:{number}: {error}') from error
