"""Which file of targets belongs to which image, by their names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from clear.core.errors import DataError

logger = logging.getLogger('clear')


def targets_of(root: Path, images: Sequence[str], targets: Sequence[str], key: Callable[[str], str]) -> list[str]:
    """For each image the target of the same key. Targets without an image are left out, with a warning.

    Args:
        images, targets: paths relative to `root`.
        key: of an image or a target: what it has in common with its partner.

    Raises:
        DataError: if there are no images, two targets have one key, or an image has none, naming the first.
    """
    if not images:
        raise DataError(f'{root}: no images.')
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


def stem(path: str) -> str:
    """The name of a file without its folders and its last suffix."""
    return path.rpartition('/')[2].rpartition('.')[0]
