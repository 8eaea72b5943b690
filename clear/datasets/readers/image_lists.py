"""Which images there are to learn from: those of a folder, a list or a table, in an order that never changes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clear.core.errors import DataError, nearest
from clear.core.files import inside, parse_json, read_text, regular_file
from clear.datasets.fingerprints import image_list_fingerprint
from clear.datasets.images.packed_strings import PackedStrings
from clear.datasets.readers.image_files import IMAGE_SUFFIXES, first_repeated, image_files

TABLE_SUFFIXES = ('.csv', '.parquet', '.jsonl')


@dataclass(frozen=True)
class Span:
    """A bucket: its name and its rows `start` ... `stop - 1`."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class ImageList:
    """Images below one root, bucket after bucket.

    Attributes:
        root: absolute; what the paths are relative to.
        paths: one per image, no two the same; also the ids.
        buckets: one after another, covering all rows; a source without time is one bucket.
        labels: class indices, or None where the source has none.
        class_names: class index to name; empty without labels.

    Raises:
        DataError: if there are no images, a bucket is empty, or a path is there twice or leaves the root.
    """

    root: Path
    paths: Sequence[str]
    buckets: Sequence[Span] = ()
    labels: list[int] | None = None
    class_names: list[str] = field(default_factory=list)

    def __post_init__(self):
        empty = [span.name for span in self.buckets if span.start == span.stop]
        if empty:
            raise DataError(f"{self.root}: bucket '{empty[0]}' has no images.")
        if not len(self.paths):
            raise DataError(f'{self.root}: no images.')
        buckets = tuple(self.buckets) or (Span('all', 0, len(self.paths)),)
        _check_paths(self.root, self.paths)
        object.__setattr__(self, 'buckets', buckets)
        object.__setattr__(self, 'paths', PackedStrings(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def bucket_of(self, row: int) -> Span:
        """The bucket that a row is in."""
        return next(span for span in self.buckets if row < span.stop)

    def fingerprint(self) -> str:
        """BLAKE2b (256 bits) of buckets, paths and file sizes in order, wherever the root lies; a missing file has -1.

        A file that changes at equal size goes unnoticed: reading all of them would take as long as an epoch.
        """
        return image_list_fingerprint(self.root, self.paths,
                                      [(span.name, span.start, span.stop) for span in self.buckets])


def read_folder(data_root: str | Path) -> ImageList:
    """Every image file below a folder, sorted by path, whatever the depth; hidden files and folders are left out.

    Folders behind symbolic links count too.

    Raises:
        DataError: if the folder does not exist or holds no images.
    """
    root = existing_folder(data_root)
    paths = image_files(root)
    if not paths:
        raise DataError(f'{root} holds no images; looked for {" ".join(IMAGE_SUFFIXES)} at every depth.')
    return ImageList(root, paths)


def read_list(list_file: str | Path, data_root: str | Path | None = None) -> ImageList:
    """The images that a text file names, one path per line, in its order; blank lines are skipped.

    Args:
        data_root: what the paths are relative to; None means the folder of the list.

    Raises:
        DataError: if the list cannot be read or is empty, or a path is missing, named twice or outside the root.
    """
    file = Path(list_file)
    paths = [line.strip() for line in read_text(file).split('\n') if line.strip()]
    return listed_images(file, existing_folder(data_root or file.parent), paths)


def read_table(table: str | Path, data_root: str | Path | None = None, path_column: str = 'path') -> ImageList:
    """The images that a column of a `.csv`, `.parquet` or `.jsonl` file names, in the order of its rows.

    Args:
        data_root: what the paths are relative to; None means the folder of the table.

    Raises:
        DataError: if the table cannot be read, lacks the column or a cell, or a path is missing, named twice or
            outside the root.
    """
    file = Path(table)
    paths = _read_column(file, path_column)
    missing = next((row for row, path in enumerate(paths) if path is None or path == ''), None)
    if missing is not None:
        raise DataError(f'{file}: row {missing + 1} has no {path_column}.')
    return listed_images(file, existing_folder(data_root or file.parent), [str(path) for path in paths])


def listed_images(source: Path, root: Path, paths: list[str], buckets: Sequence[Span] = ()) -> ImageList:
    """An `ImageList` of paths that somebody wrote down, after a look at whether the files are there.

    Raises:
        DataError: naming the first missing one.
    """
    if not paths:
        raise DataError(f'{source} names no images.')
    images = ImageList(root, paths, buckets)
    row = _first_missing(root, images.paths)
    if row is not None:
        raise DataError(f"{source}: image {row + 1} of {len(paths)}, '{paths[row]}', is not in {root}. Is data_root "
                        'right, and are the data complete?')
    return images


def existing_folder(path: str | Path) -> Path:
    """The folder as an absolute path, so that a later change of folder harms nobody.

    Raises:
        DataError: if it does not exist.
    """
    root = Path(path).absolute()
    if not root.is_dir():
        raise DataError(f'The folder {root} does not exist.')
    return root


def _check_paths(root: Path, paths: Sequence[str]) -> None:
    twice = first_repeated(paths)
    if twice is not None:
        one, other = (paths[row] for row in twice)
        also = '' if one == other else f" (the first as '{one}')"
        raise DataError(f"{root}: '{other}' is listed twice, as images {twice[0] + 1} and {twice[1] + 1}{also}.")
    for path in paths:
        if path.startswith('/') or '..' in path:  # pathlib takes 10 us per path, a test of text none
            inside(root, path)


def _first_missing(root: Path, paths: Sequence[str]) -> int | None:
    """The first row whose file is not there. Lists each folder once: far cheaper than asking for every file."""
    names: dict[str, set[str]] = {}
    for row, path in enumerate(paths):
        folder, _, name = path.rpartition('/')
        if folder not in names:
            try:
                names[folder] = {entry.name for entry in os.scandir(root / folder) if not entry.is_dir()}
            except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name that no folder has
                names[folder] = set()
        if name not in names[folder]:
            return row
    return None


def _read_column(file: Path, column: str) -> list:
    import pyarrow
    from pyarrow import csv, parquet

    if file.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(f'{file}: a table ends in {", ".join(TABLE_SUFFIXES[:-1])} or {TABLE_SUFFIXES[-1]}.')
    try:
        if regular_file(file).suffix.lower() == '.parquet':
            names = parquet.read_schema(file).names
            found = parquet.read_table(file, columns=[column]) if column in names else None
        elif file.suffix.lower() == '.csv':
            # As text: names such as 0012 must not become numbers.
            options = csv.ConvertOptions(column_types={column: pyarrow.string()}, null_values=[''],
                                         strings_can_be_null=True)
            found = csv.read_csv(file, convert_options=options)
            names = found.column_names
        else:
            return _read_json_lines(file, column)
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise DataError(f'{file} cannot be read as a table: {error}') from error
    _require_column(file, column, names)
    return found[column].to_pylist()


def _read_json_lines(file: Path, column: str) -> list:
    """One key of every line; not by pyarrow, whose reader ends the process on lines that are nested deep."""
    rows = [parse_json(line, f'{file}:{number}') for number, line in enumerate(read_text(file).split('\n'), start=1)
            if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise DataError(f'{file}: expected an object {{"{column}": ...}} on every line.')
    _require_column(file, column, list(dict.fromkeys(key for row in rows for key in row)))
    return [row.get(column) for row in rows]


def _require_column(file: Path, column: str, names: list[str]) -> None:
    if column not in names:
        near = nearest(column, names)
        raise DataError(f"{file} has no column '{column}'{f', nearest: {near}' if near else ''}. Columns: "
                        f'{", ".join(names)}.')


def span_arrays(parts: Sequence[tuple[str, Sequence[str]]]) -> tuple[list[str], list[Span]]:
    """The paths of named buckets in one list, and where each bucket is in it."""
    ends = np.cumsum([0, *(len(paths) for _, paths in parts)]).tolist()
    return ([path for _, paths in parts for path in paths],
            [Span(name, start, stop) for (name, _), start, stop in zip(parts, ends, ends[1:])])
