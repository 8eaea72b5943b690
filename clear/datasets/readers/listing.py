"""Text files that name images, one a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from clear.core.files import read_text
from clear.datasets.readers.image_files import check_different, folder_of
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
    return ImageTable.from_columns(folder_of(file, root), dict(path=paths, label=labels), names, name=file.stem)


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in read_text(file).split('\n') if line.strip()]
