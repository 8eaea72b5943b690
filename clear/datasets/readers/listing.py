"""Text files that name images, one a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import read_text
from clear.datasets.readers.image_files import check_different, check_there, existing_folder, folder_of
from clear.datasets.readers.labels import class_indices
from clear.datasets.table import ImageTable
from clear.registry import READERS

_NUMBER = re.compile('-?[0-9]{1,1000}')  # Python reads none of thousands of digits


@READERS.register_module(name='FileList')
def list_file(path: str, root: str | None = None, class_names: Sequence[str] | None = None) -> ImageTable:
    """Lines `<path> <class index>`; a line without an index has no label. Paths are relative to `root`.

    Args:
        root: by default the folder of the list.
        class_names: by index; by default the classes are those that occur, named by their numbers.
    """
    file = Path(path)
    paths, given = [], []
    for line in _lines(file):
        name, _, last = line.rpartition(' ')
        is_labelled = bool(name) and _NUMBER.fullmatch(last) is not None
        paths.append(name.strip() if is_labelled else line)
        given.append(int(last) if is_labelled else None)
    check_different(paths, file)
    labels, names = class_indices(given, class_names or None, str(file))
    columns = dict(path=paths) | (dict(label=labels) if any(label is not None for label in given) else {})
    return ImageTable.from_columns(folder_of(file, root), columns, names, name=file.stem)


@READERS.register_module(name='ListImages')
def read_list(list_file: str | Path, data_root: str | Path | None = None) -> ImageTable:
    """The images that a text file names, one path per line, in its order; blank lines are skipped.

    Args:
        data_root: what the paths are relative to; None means the folder of the list.

    Raises:
        DataError: if the list cannot be read or is empty, or a path is missing, named twice or outside the root.
    """
    file = Path(list_file)
    paths = _lines(file)
    return listed_images(file, existing_folder(data_root or file.parent), paths)


def listed_images(where: Path, root: Path, paths: Sequence[str], **columns: Sequence) -> ImageTable:
    """Paths that somebody wrote down, after a look at whether the files are there.

    Raises:
        DataError: if there are none, one is missing, named twice or outside the root.
    """
    check_named(paths, where)
    check_different(paths, where)
    images = ImageTable.from_columns(root, dict(path=paths, **columns), name=where.stem)
    check_there(images.cells('path'), root, where)
    return images


def check_named(paths: Sequence[str], where: Path) -> None:
    """Refuse a list of nothing."""
    if not len(paths):
        raise DataError(f'{where} names no images.')


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in read_text(file).split('\n') if line.strip()]
