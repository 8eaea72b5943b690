"""Which files of a folder are images, and when two written paths are one file."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow
from pyarrow import compute

from clear.core.errors import DataError
from clear.datasets.columns import plain_texts, repeated_text

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif', '.tif', '.tiff', '.ppm', '.pgm')
# Folders below `data` that shipped recipes read, and what writes them, below `tools/dataset_converters`.
_WRITTEN_BY = {'demo': 'make_demo_clear.py', 'demo_scenes': 'make_demo_scenes.py'}


def image_files(root: Path, below: str = '') -> list[str]:
    """Paths, relative to `root`, of the image files in `root/below`, whatever the depth, sorted by their parts.

    Hidden files and folders, and the `__MACOSX` that archives from a Mac hold, are left out. Links are followed; one
    that leads to a folder it lies in ends there.

    Raises:
        DataError: if a folder cannot be read.
    """
    found = []
    start = root / below
    todo = [(str(start), f'{below}/' if below else '', frozenset({_identity(start)}))]
    while todo:
        folder, prefix, above = todo.pop()
        for entry in _entries(folder):
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                identity = _identity(entry)
                # The second test is for links that lead into each other.
                if not (entry.is_symlink() and _lies_in(folder, entry.path)) and identity not in above:
                    todo.append((entry.path, f'{prefix}{entry.name}/', above | {identity}))
            elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                found.append(prefix + entry.name)
    return sorted(found, key=lambda path: path.split('/'))


def folders_in(place: Path) -> list[Path]:
    """The folders right below a folder, sorted by name, without hidden ones and `__MACOSX`; links to folders count."""
    return sorted(path for path in place.iterdir() if path.is_dir() and not is_hidden(path.name)) \
        if place.is_dir() else []


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no data: notes of an editor, a notebook or another system."""
    return name.startswith('.') or name == '__MACOSX'


def plain_path(path: str) -> str:
    """The path without redundant parts and separators, so that one file has one spelling."""
    # Only these can be redundant, and normalising every path takes ten times as long as this look.
    return posixpath.normpath(path) if '//' in path or './' in path or path.endswith(('/', '/.', '/..')) else path


def first_repeated(paths: Iterable[str]) -> tuple[int, int] | None:
    """(earlier, later) position of the first path that is there twice, in whatever spelling."""
    first: dict[str, int] = {}
    for position, path in enumerate(paths):
        earlier = first.setdefault(plain_path(path), position)
        if earlier != position:
            return earlier, position
    return None


def has_odd_spelling(paths: pyarrow.Array | pyarrow.ChunkedArray) -> bool:
    """Whether one file may be there under two spellings."""
    return compute.any(compute.match_substring_regex(paths, r'//|\./|/\.{0,2}$')).as_py() or False


def check_different(paths: Sequence[str] | pyarrow.Array | pyarrow.ChunkedArray, where: str | Path) -> None:
    """Refuse a path that is there twice, in whatever spelling.

    Raises:
        DataError: naming the first and both its places.
    """
    if not isinstance(paths, Sequence):
        # Without odd spellings equal paths are all there is to find, in less memory than names in Python take.
        if not has_odd_spelling(paths) and repeated_text(paths) is None:
            return
        paths = plain_texts(paths)
    twice = first_repeated(paths)
    if twice is not None:
        one, other = (paths[row] for row in twice)
        also = '' if one == other else f" (the first as '{one}')"
        raise DataError(f"{where}: '{other}' is listed twice, as images {twice[0] + 1} and {twice[1] + 1}{also}.")


def check_there(paths: Sequence[str], root: Path, where: Path) -> None:
    """Refuse paths that somebody wrote down and that lead to no file.

    Raises:
        DataError: naming the first that is missing.
    """
    row = first_missing(root, paths)
    if row is not None:
        raise DataError(f"{where}: image {row + 1} of {len(paths)}, '{paths[row]}', is not in {root}. Is data_root "
                        'right, and are the data complete?')


def folder_of(file: Path, root: str | Path | None) -> Path:
    """What the paths in a file are relative to: `root`, or the folder of the file.

    Raises:
        DataError: if it does not exist.
    """
    return real_path(file).parent if root is None else existing_folder(root)


def how_to_make(root: Path) -> str:
    """The sentence about the program that writes what shipped recipes read; empty for other folders."""
    for folder in (root, *root.parents):
        if folder.parent.name == 'data' and folder.name in _WRITTEN_BY:
            return f'To get the data: `python tools/dataset_converters/{_WRITTEN_BY[folder.name]} {folder}`.'
    return ''


def existing_folder(path: str | Path, called: str = 'folder', hint: str = '') -> Path:
    """The folder as an absolute path without links, so that a later change of folder harms nobody.

    Args:
        called: what it is, in the message; `hint` ends that where nothing is there.

    Raises:
        DataError: if it does not exist, or is none.
    """
    root = real_path(path)
    if not root.is_dir():
        raise DataError(f'{root} is no folder.' if root.exists() else
                        f'The {called} {root} does not exist. {hint or how_to_make(root)}'.rstrip())
    return root


def first_missing(root: Path, paths: Sequence[str]) -> int | None:
    """The first row whose file is not there. Lists each folder once: far cheaper than asking for every file."""
    names: dict[str, set[str]] = {}
    for row, path in enumerate(paths):
        folder, _, name = path.rpartition('/')
        if folder not in names:
            try:
                names[folder] = {entry.name for entry in os.scandir(root / folder) if not entry.is_dir()}
            except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name that no folder has
                names[folder] = set()
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                names[folder] = set()
        if name not in names[folder]:
            return row
    return None


def real_path(path: str | Path) -> Path:
    """The path with its links resolved; as it is, made absolute, where there is nothing or no file can be called so."""
    path = Path(path)
    return path.resolve() if path.exists() else path.absolute()


def _lies_in(folder: str, other: str) -> bool:
    return Path(folder).resolve().is_relative_to(Path(other).resolve())


def _entries(folder: str) -> list[os.DirEntry]:
    try:
        return list(os.scandir(folder))
    except OSError as error:
        raise DataError(f'The folder {folder} cannot be read: {error.strerror}.') from error


def _identity(place: Path | os.DirEntry) -> tuple[int, int]:
    status = place.stat()
    return status.st_dev, status.st_ino
