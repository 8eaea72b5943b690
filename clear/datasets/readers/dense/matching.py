"""Which file of targets belongs to which image, by their names; and the table of both."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.datasets.dense.targets import DenseTable, TargetDecoder
from clear.datasets.readers.image_files import existing_folder, first_missing, image_files

logger = logging.getLogger('clear')


def paired_table(root: Path, split: str, images: Sequence[str], targets: Sequence[str], kind: str,
                 decode: TargetDecoder, names: Sequence[str] = ()) -> DenseTable:
    """Images with a target each, in their order.

    Args:
        kind, decode, names: as `target_kind`, `decode` and `target_names` of the table.
    """
    columns = dict(path=images, mask=targets, split=pyarrow.repeat(split, len(images)))
    return DenseTable.from_columns(root, columns, target_kind=kind, decode=decode, target_names=names)


def paired_folders(root: str, split: str, folders: tuple[str, str], key: Callable[[str], str], kind: str,
                   decode: TargetDecoder) -> DenseTable:
    """`root/{train,test}/<folder of images>/...` with their targets in the other folder beside it.

    Args:
        key: of an image or a target, as for `targets_of`; kind, decode: as for `paired_table`.

    Raises:
        ConfigError: for a split that is neither 'train' nor 'test'.
        DataError: if a folder or the target of an image is missing.
    """
    check_choice('split', split, ('train', 'test'))
    base = existing_folder(root)
    for folder in folders:
        existing_folder(base / split / folder)
    images, targets = (image_files(base, f'{split}/{folder}') for folder in folders)
    return paired_table(base, split, images, targets_of(base, split, images, targets, key), kind, decode)


def targets_of(root: Path, split: str, images: Sequence[str], targets: Sequence[str], key: Callable[[str], str]
               ) -> list[str]:
    """For each image the target of the same key. Targets without an image are left out, with a warning.

    Args:
        images, targets: paths relative to `root`.
        key: of an image or a target: what it has in common with its partner.

    Raises:
        DataError: if there are no images, two targets have one key, or an image has none, naming the first.
    """
    if not images:
        raise DataError(f"{root}: no images of '{split}'.")
    of_key: dict[str, str] = {}
    for path in targets:
        if of_key.setdefault(key(path), path) != path:
            raise DataError(f"{root}: '{of_key[key(path)]}' and '{path}' are targets of one image.")
    keys = [key(path) for path in images]
    without = [path for path, name in zip(images, keys) if name not in of_key]
    if without:
        raise DataError(f"{root}: the target of '{without[0]}' is missing; {len(without)} of {len(images)} images have "
                        'none.')
    if (spare := sorted(of_key[name] for name in of_key.keys() - set(keys))):
        logger.warning("%s: %d targets have no image and are left out: '%s'%s.", root, len(spare), spare[0],
                       ' ...' if len(spare) > 1 else '')
    return [of_key[name] for name in keys]


def check_there(root: Path, split: str, images: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse images whose target, which has a name of its own, is not there.

    Raises:
        DataError: if there are no images, or naming the first without a target.
    """
    if not images:
        raise DataError(f"{root}: no images of '{split}'.")
    if (row := first_missing(root, targets)) is not None:
        raise DataError(f"{root}: the target of '{images[row]}' is missing: there is no '{targets[row]}'.")


def stem(path: str) -> str:
    """The name of a file without its folders and its last suffix."""
    return path.rpartition('/')[2].rpartition('.')[0]
