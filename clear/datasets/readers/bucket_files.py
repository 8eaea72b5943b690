"""Bucket files of a curation: JSON that lists the images of one time bucket, or of all of them.

Three forms: `{"all_metadata": [record, ...], ...}`, one bucket; `{name: {"all_metadata": [...]}, ...}`, all of them;
`{id: record, ...}`, one bucket. A record holds `IMG_PATH`, and `IMG_DIR` if that is not the data root.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import pyarrow

from clear.core.errors import ConfigError, DataError
from clear.core.files import read_json
from clear.datasets.columns import runs
from clear.datasets.readers.by_time import order_times
from clear.datasets.readers.listing import check_named, listed_images
from clear.datasets.table import ImageTable

_NAME = re.compile(r'bucket_(.+)')


def find_bucket_files(root: Path) -> list[Path]:
    """`bucket_<name>.json` right below a folder or, where there is none, one folder deeper."""
    return sorted(root.glob('bucket_*.json')) or sorted(root.glob('*/bucket_*.json'))


def read_bucket_files(root: Path, files: Sequence[Path], choose: Callable[[Sequence[str], Path], list[str]],
                      image_dir: str | None = None) -> ImageTable:
    """The images of the chosen buckets, in the order of the records.

    A single file may hold any number of buckets, in the order of their numbers or dates. Of several files each is one
    bucket, named by the file (`bucket_<name>.json`), and only the chosen ones are read.

    Args:
        choose: (names in order of time, where they come from) -> the names wanted.
        image_dir: stands in for every IMG_DIR, relative to `root`; for data that were moved.

    Raises:
        ConfigError: from `choose`, or if two files have the same name or names have no order in time.
        DataError: if a file is no bucket file, a bucket is empty, or an image is missing or outside `root`.
    """
    if not files:
        raise ConfigError('bucket_files is empty.')
    if len(files) == 1:
        source, buckets = files[0], _buckets_of(files[0])
        names = choose(list(buckets) if len(buckets) == 1 else order_times(list(buckets), source), source)
        chosen = [(name, source, buckets[name]) for name in names]
    else:
        source = files[0].parent
        by_name = {_bucket_name(file): file for file in files}
        if len(by_name) < len(files):
            raise ConfigError(f'bucket_files: two of {", ".join(map(str, files))} are the same bucket.')
        names = choose(order_times(list(by_name), source), source)
        chosen = [(name, by_name[name], _only_bucket(by_name[name])) for name in names]
    paths = {name: _paths(file, root, records, image_dir) for name, file, records in chosen}
    where, listed = chosen[0][1] if len(chosen) == 1 else source, [*chain(*paths.values())]
    check_named(listed, where)
    return listed_images(where, root, listed, bucket=bucket_column(paths, root))


def bucket_column(paths: Mapping[str, Sequence[str]], root: Path) -> pyarrow.DictionaryArray:
    """The column `bucket` of images that lie bucket after bucket.

    Raises:
        DataError: if a bucket is empty.
    """
    empty = [name for name, found in paths.items() if not len(found)]
    if empty:
        raise DataError(f"{root}: bucket '{empty[0]}' has no images.")
    return runs((name, len(found)) for name, found in paths.items())


def _bucket_name(file: Path) -> str:
    match = _NAME.fullmatch(file.stem)
    return match[1] if match else file.stem


def _buckets_of(file: Path) -> dict[str, Iterable[object]]:
    """Records by the name of their bucket."""
    content = read_json(file)
    if isinstance(content, dict):
        if isinstance(content.get('all_metadata'), list):
            return {_bucket_name(file): content['all_metadata']}
        values = list(content.values())
        if values and all(isinstance(each, dict) and isinstance(each.get('all_metadata'), list) for each in values):
            return {name: each['all_metadata'] for name, each in content.items()}
        if values and all(isinstance(each, dict) and 'IMG_PATH' in each for each in values):
            return {_bucket_name(file): values}
    found = f'a dict with the keys {list(content)[:3]}' if isinstance(content, dict) else type(content).__name__
    raise DataError(f'{file} is no bucket file: expected {{"all_metadata": [{{"IMG_DIR": ..., "IMG_PATH": ...}}]}}, '
                    f'that by the name of a bucket, or {{id: {{"IMG_PATH": ...}}}}; found {found}.')


def _only_bucket(file: Path) -> Iterable[object]:
    buckets = _buckets_of(file)
    if len(buckets) > 1:
        raise DataError(f'{file} holds {len(buckets)} buckets. Give it alone, or only files of one bucket each.')
    return next(iter(buckets.values()))


def _paths(file: Path, root: Path, records: Iterable[object], image_dir: str | None) -> list[str]:
    # Text is compared, not `Path`s: there may be a million records. IMG_DIR may be the root itself or where the
    # root's link leads.
    roots = tuple(f'{place}/' for place in dict.fromkeys((str(root), str(root.resolve()))))
    paths = []
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict) or not isinstance(record.get('IMG_PATH'), str) or not record['IMG_PATH']:
            raise DataError(f'{file}: record {number} has no IMG_PATH.')
        folder = (record.get('IMG_DIR') or '') if image_dir is None else image_dir
        path = posixpath.normpath(posixpath.join(folder, record['IMG_PATH']))
        below = next((path[len(each):] for each in roots if path.startswith(each)), path)
        if below.startswith(('/', '../')) or below in ('.', '..'):
            raise DataError(f"{file}: record {number}, '{path}', lies outside {root}. Set data_root to a folder that "
                            'holds the images; or, where they were moved, image_dir to the part of their place that '
                            'is below data_root, in place of IMG_DIR.')
        paths.append(below)
    return paths
