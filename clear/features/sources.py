"""What can be encoded: CLEAR trees, image folders, list files, tables, torchvision data sets. Images in a fixed order.

A source is a plain table (id, path, label, bucket, timestamp per row) and a way to open row i. Splits are no part of
it: their images are found by id in the bank.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError, DataError, nearest
from clear.core.files import inside, read_text, regular_file
from clear.datasets import read_clear
from clear.datasets.fingerprints import bank_source_fingerprint, file_sizes
from clear.datasets.images.decode import decode_image
from clear.datasets.readers.bucket_lists import BucketChoice, read_buckets
from clear.datasets.readers.dates import parse_time
from clear.datasets.readers.folder import read_class_folders
from clear.datasets.readers.image_files import first_repeated, real_path
from clear.datasets.readers.labels import class_indices, read_labels
from clear.features.writing import check_class_names, check_ids

_NUMBER = re.compile('-?[0-9]{1,1000}')  # Python reads none of thousands of digits


@dataclass(eq=False)
class Source:
    """Images to encode.

    Attributes:
        kind: the `type` it was built from.
        name: a short name, used for the folder of a bank.
        root: what `paths` are relative to.
        ids: one per image, unique.
        labels: (N,) int64 class indices, -1 = no label.
        buckets, timestamps: one per image, None = none.

    Raises:
        DataError: if there are no images, ids or class names repeat, or a label has no name.
    """

    kind: str
    name: str
    root: Path
    ids: list[str]
    paths: list[str]
    labels: np.ndarray
    class_names: list[str]
    buckets: list[str | None] = field(default_factory=list)
    timestamps: list[datetime | None] = field(default_factory=list)

    def __post_init__(self):
        self.labels = np.asarray(self.labels, dtype=np.int64)
        check_class_names(self.class_names, str(self.root))
        self.buckets = self.buckets or [None] * len(self.ids)
        self.timestamps = self.timestamps or [None] * len(self.ids)
        if not self.ids:
            raise DataError(f'{self.root}: no images to encode.')
        check_ids(self.ids, str(self.root))
        if self.labels.min() < -1 or self.labels.max() >= len(self.class_names):
            raise DataError(f'{self.root}: labels {self.labels.min()} ... {self.labels.max()} do not fit '
                            f'{len(self.class_names)} class names (-1 means no label).')

    def __len__(self) -> int:
        return len(self.ids)

    def open(self, row: int) -> Image.Image:
        """The image of a row as RGB.

        Raises:
            UnreadableImage: with the reason.
        """
        return decode_image(inside(self.root, self.paths[row]))

    def fingerprint(self) -> str:
        """SHA-256 of ids, labels, buckets, class names and file sizes, in order; a missing file has size -1.

        A file whose content changes at equal size goes unnoticed: reading every image would cost as much as the bank
        saves.
        """
        return bank_source_fingerprint(self.ids, self.labels, self.buckets, self.class_names,
                                       file_sizes(self.root, self.paths))


def clear_source(data_root: str, data_name: str | None = None, layout: str = 'auto') -> Source:
    """All images of a CLEAR tree in either layout, bucket by bucket. Ids are the paths, as in the splits' lists."""
    data = read_clear(data_root, data_name=data_name, evaluation_protocol='streaming', seed=None, layout=layout)
    return Source('CLEAR', data.root.name, data.root,
                  ids=[name for bucket in data.train for name in bucket.ids],
                  paths=[path for bucket in data.train for path in bucket.paths],
                  labels=np.concatenate([bucket.targets for bucket in data.train]), class_names=data.class_names,
                  buckets=[bucket.name for bucket in data.train for _ in bucket.ids])


def image_folder(root: str) -> Source:
    """`root/<class>/<anything>.jpg`, in alphabetical order; images right below `root` have no label.

    See `read_class_folders`.
    """
    base = _existing(root)
    images = read_class_folders(base)
    paths = images.texts('path')
    return Source('ImageFolder', base.name, base, paths, list(paths), images.label_array(), list(images.class_names))


def folder_by_time_source(data_root: str, times: Sequence[str] | None = None, part_folders: bool | None = None
                          ) -> Source:
    """All images of `<time>/<class>/<image>`, bucket by bucket, as `scenario.type='FolderByTime'` reads them."""
    images = read_buckets(data_root, BucketChoice(None, 'all', layout='folder', times=times, part_folders=part_folders))
    # As the scenario sorts them, which takes this bank for its own.
    order = [row for span in images.buckets
             for row in sorted(range(span.start, span.stop), key=images.paths.__getitem__)]
    paths = [images.paths[row] for row in order]
    labels = [-1 if images.labels is None else images.labels[row] for row in order]
    return Source('FolderByTime', images.root.name, images.root, paths, list(paths), labels, images.class_names,
                  [span.name for span in images.buckets for _ in range(span.start, span.stop)])


def list_file(path: str, root: str | None = None, class_names: Sequence[str] | None = None) -> Source:
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
    _check_different(paths, file)
    labels, names = class_indices(given, class_names or None, str(file))
    return Source('FileList', file.stem, _root_of(file, root, paths), list(paths), paths, labels, names)


def table(path: str, root: str | None = None, class_names: Sequence[str] | None = None) -> Source:
    """A `.csv` or `.parquet` file with the column `path`, and if wanted `label`, `id`, `bucket`, `timestamp`.

    Labels are class indices (of `class_names`; without them the classes are those that occur, named by their numbers),
    or class names (then sorted, unless `class_names` gives the order); empty = no label. Timestamps are read by
    `parse_time`; without a zone they are UTC.

    Args:
        root: what paths are relative to; by default the folder of the table.
    """
    file = Path(path)
    columns = _read_table(file)
    if 'path' not in columns:
        raise DataError(f"{file} has no column 'path'; it has {', '.join(columns)}.")
    paths = [str(value) for value in columns['path']]
    ids = [str(value) for value in columns.get('id', paths)]
    labels, names = class_indices(read_labels(columns.get('label', [None] * len(paths)), str(file)),
                                  class_names or None, str(file))
    buckets = [None if value is None else str(value) for value in columns.get('bucket', [None] * len(paths))]
    if 'id' not in columns:
        _check_different(paths, file)
    return Source('Table', file.stem, _root_of(file, root, paths), ids, paths, labels, names, buckets,
                  list(columns.get('timestamp', [])))


def _read_table(file: Path) -> dict[str, list]:
    import pyarrow
    from pyarrow import csv, parquet

    as_text = {name: pyarrow.string() for name in ('path', 'id', 'bucket', 'timestamp')}
    try:
        if regular_file(file).suffix.lower() == '.csv':
            options = csv.ConvertOptions(column_types=as_text, null_values=[''], strings_can_be_null=True)
            found = csv.read_csv(file, convert_options=options)
        else:
            found = parquet.read_table(file)
        names = found.column_names  # decoded here
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise DataError(f'{file} cannot be read as a table: {error}') from error
    for name in ('path', 'id'):
        if name in names and found[name].null_count:
            raise DataError(f'{file}: {found[name].null_count} rows have no {name}.')
    columns = found.to_pydict()
    if 'timestamp' in columns:
        columns['timestamp'] = [_time(value, file, row) for row, value in enumerate(columns['timestamp'], start=1)]
    return columns


def _time(value: Any, file: Path, row: int) -> datetime | None:
    try:
        return parse_time(value)
    except ValueError as error:
        raise DataError(f'{file}, row {row}: {error}.') from error


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in read_text(file).split('\n') if line.strip()]


def _check_different(paths: Sequence[str], file: Path) -> None:
    twice = first_repeated(paths)
    if twice is not None:
        one, other = twice
        raise DataError(f"{file}: '{paths[other]}', image {other + 1}, is there twice: it is image {one + 1} too.")


def _root_of(file: Path, root: str | None, paths: Sequence[str]) -> Path:
    base = file.resolve().parent if root is None else _existing(root)
    for path in paths:
        if path.startswith('/') or '..' in path:
            inside(base, path)
    return base


def _existing(root: str) -> Path:
    base = real_path(root)
    if not base.is_dir():
        raise DataError(f'The folder {base} does not exist.')
    return base


def _builders() -> dict[str, Callable[..., Source]]:
    from clear.features.torchvision_source import torchvision_source

    return {'CLEAR': clear_source, 'ImageFolder': image_folder, 'FolderByTime': folder_by_time_source,
            'FileList': list_file, 'Table': table, 'TorchVision': torchvision_source}


def build_source(cfg: dict[str, Any] | Source) -> Source:
    """Build a source from `dict(type='CLEAR' | 'ImageFolder' | 'FolderByTime' | 'FileList' | 'Table' | ..., ...)`.

    Raises:
        ConfigError: for an unknown type or key.
        DataError: if the data are missing or wrong.
    """
    if isinstance(cfg, Source):
        return cfg
    options = dict(cfg)
    kind, builders = options.pop('type', None), _builders()
    if not isinstance(kind, str) or kind not in builders:
        near = nearest(str(kind), builders)
        raise ConfigError(f'data.type is {kind!r}{f", nearest: {near}" if near else ""}. Known: '
                          f'{", ".join(builders)}.')
    check_keys('data', options, accepted_arguments(builders[kind]), kind)
    try:
        return builders[kind](**options)
    except TypeError as error:
        raise ConfigError(f'data of type {kind}: {error}') from error


def guess_source(path: str | Path) -> dict[str, Any]:
    """The config of the source that a path looks like: a CLEAR tree, an image folder, a list or a table.

    Raises:
        DataError: if it is none of them.
    """
    path = Path(path)
    if path.suffix.lower() in ('.csv', '.parquet'):
        return dict(type='Table', path=str(path))
    if path.suffix.lower() == '.txt':
        return dict(type='FileList', path=str(path))
    if not path.is_dir():
        raise DataError(f'{path} is no folder, list (.txt) or table (.csv, .parquet) of images.')
    is_clear = (path / 'training_folder').is_dir() or (path / 'train' / 'labeled_metadata.json').is_file()
    return dict(type='CLEAR', data_root=str(path)) if is_clear else dict(type='ImageFolder', root=str(path))
