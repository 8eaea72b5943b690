"""Folders whose names are classes, as a table of images."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import pyarrow

from clear.core.errors import DataError
from clear.datasets.readers.image_files import IMAGE_SUFFIXES, existing_folder, folders_in, image_files
from clear.datasets.table import ImageTable
from clear.registry import READERS

logger = logging.getLogger('clear')


@READERS.register_module(name='ImageFolder')
def image_folder(root: str) -> ImageTable:
    """`root/<class>/<anything>.jpg`, sorted by path; images right below `root` have no label.

    See `read_class_folders`.
    """
    return read_class_folders(existing_folder(root))


@READERS.register_module(name='FolderImages')
def read_folder(data_root: str | Path) -> ImageTable:
    """Every image file below a folder, sorted by path, whatever the depth; hidden files and folders are left out.

    Folders behind symbolic links count too.

    Raises:
        DataError: if the folder does not exist or holds no images.
    """
    root = existing_folder(data_root)
    paths = image_files(root)
    if not paths:
        raise DataError(f'{root} holds no images; looked for {" ".join(IMAGE_SUFFIXES)} at every depth.')
    return ImageTable.from_columns(root, dict(path=paths))


def read_class_folders(root: Path) -> ImageTable:
    """`root/<class>/<anything>.jpg`, sorted by path; images right below `root` have no label.

    Hidden files and folders are left out, links are followed (see `image_files`). A class without images is left out,
    with a warning.

    Raises:
        DataError: if a folder cannot be read, or the name of a class is not UTF-8.
    """
    paths = image_files(root)
    classes = [path.partition('/')[0] if '/' in path else None for path in paths]
    names = sorted({name for name in classes if name is not None})
    warn_of_empty_classes(root, (folder.name for folder in folders_in(root)), names)
    of_name = {name: label for label, name in enumerate(names)}
    labels = pyarrow.array([of_name.get(name, -1) for name in classes], pyarrow.int32())
    return ImageTable.from_columns(root, dict(path=paths, label=labels), names)


def warn_of_empty_classes(root: Path, folders: Iterable[str], class_names: Iterable[str]) -> None:
    """Say in one warning which folders of classes hold no image."""
    empty = sorted(set(folders) - set(class_names))
    if empty:
        logger.warning('%s: %d classes have no images and are left out: %s%s.', root, len(empty),
                       ', '.join(map(ascii, empty[:5])), ' ...' if len(empty) > 5 else '')
