"""Rendered rooms of AI2-THOR: what an agent did between two views, and how many steps it is away from an object."""

from __future__ import annotations

import re
from pathlib import Path

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.core.files import inside, read_text
from clear.datasets.clips import clip_table
from clear.datasets.readers.image_files import check_different, check_there, existing_folder, image_files
from clear.datasets.readers.virb.counts import check_count, count_names
from clear.datasets.table import ImageTable
from clear.registry import READERS

ACTIONS = ('MoveAhead', 'RotateLeft', 'RotateRight', 'LookUp', 'LookDown')
SPLITS = ('train', 'val')
_NUMBER = re.compile('[0-9]{1,9}')


@READERS.register_module(name='ThorEgomotion')
def thor_egomotion(root: str, split: str) -> ImageTable:
    """`root/{train,val}_labels.txt` with lines `<stem> <action>`; the views are `<stem>_rgb_a.jpg`, `<stem>_rgb_b.jpg`.

    A pair is a clip (`clear.datasets.clips`) of two frames, in the order of the list. The classes are MoveAhead,
    RotateLeft, RotateRight, LookUp and LookDown, in this order.

    Raises:
        ConfigError: for another split.
        DataError: naming the line with another action, the image that is missing, or the stem that is there twice.
    """
    check_choice('split', split, SPLITS)
    base = existing_folder(root)
    file = base / f'{split}_labels.txt'
    pairs = labelled_lines(file)
    for line, (_, action) in pairs.items():
        if action not in ACTIONS:
            raise DataError(f"{file}:{line}: action '{action}'; expected one of {', '.join(ACTIONS)}.")
    frames = {stem: [f'{stem}_rgb_{view}.jpg' for view in 'ab'] for stem, _ in pairs.values()}
    check_there([path for views in frames.values() for path in views], base, file)
    return clip_table(base, ((stem, frames[stem], ACTIONS.index(action)) for stem, action in pairs.values()), ACTIONS,
                      f'thor_egomotion_{split}')


@READERS.register_module(name='ThorNumSteps')
def thor_num_steps(root: str, split: str) -> ImageTable:
    """`root/{train,val}/<scene>/<name>_rgb.jpg` and `root/{train,val}_labels.txt` with lines `<path> <number>`, where
    the path is that of an image without `_rgb.jpg`. Sorted by path.

    The classes are the numbers 0 ... the largest of 'train'.

    Raises:
        ConfigError: for another split.
        DataError: naming the line whose label is no such number, the listed image that is missing, or the image that is
            not listed.
    """
    check_choice('split', split, SPLITS)
    base = existing_folder(root)
    names = count_names([steps for _, steps in _steps(base / 'train_labels.txt').values()])
    file = base / f'{split}_labels.txt'
    found: dict[str, int] = {}
    for line, (stem, steps) in _steps(file).items():
        check_count(f'{file}:{line}', steps, len(names))
        found[f'{stem}_rgb.jpg'] = steps
    paths = sorted(found)
    check_there(paths, base, file)
    unlisted = next((path for path in image_files(base, split) if path.endswith('_rgb.jpg') and path not in found),
                    None)
    if unlisted is not None:
        raise DataError(f"{file} has no line for the image '{unlisted}'.")
    return ImageTable.from_columns(base, dict(path=paths, label=[found[path] for path in paths]), names,
                                   name=f'thor_num_steps_{split}')


def labelled_lines(file: Path) -> dict[int, tuple[str, str]]:
    """Number of a line -> (path below the folder of the file, label) of lines `<path> <label>`; empty ones are skipped.

    Raises:
        DataError: naming the line that has no two parts or leaves the folder, or the path that is there twice.
    """
    found = {}
    for line, text in enumerate(read_text(file).split('\n'), start=1):
        if not text.strip():
            continue
        path, _, label = text.strip().rpartition(' ')
        if not path.strip():
            raise DataError(f"{file}:{line}: '{text.strip()[:100]}'; expected '<path> <label>'.")
        inside(file.parent, path.strip())
        found[line] = path.strip(), label
    if not found:
        raise DataError(f'{file} names no images.')
    check_different([path for path, _ in found.values()], file)
    return found


def _steps(file: Path) -> dict[int, tuple[str, int]]:
    lines = labelled_lines(file)
    for line, (_, label) in lines.items():
        if not _NUMBER.fullmatch(label):
            raise DataError(f"{file}:{line}: label '{label}'; expected a number of steps, 0, 1, 2 ...")
    return {line: (path, int(label)) for line, (path, label) in lines.items()}
