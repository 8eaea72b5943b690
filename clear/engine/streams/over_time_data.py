"""The stream on which a representation is measured: lists of its buckets, and all its images as a source of banks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clear.core.checks import check_text
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError, DataError, nearest
from clear.datasets import ClearData, ImageTable, read_clear, read_images
from clear.datasets.readers.by_time import SplitOptions, all_images, read_folder_by_time
from clear.datasets.readers.table_by_time import Periods, read_table_by_time
from clear.datasets.readers.table_file import Columns
from clear.datasets.streams import read_stream_of
from clear.registry import READERS


def read_stream(cfg: dict) -> tuple[ClearData, ImageTable]:
    """The buckets with their train and test lists, and all their images as the source of banks.

    Raises:
        ConfigError: for an unknown type or key.
        DataError: if the data are missing or wrong.
    """
    options = dict(cfg)
    kind = check_text('data.type', options.pop('type'))
    readers: dict[str, Callable[..., tuple[ClearData, ImageTable]]] = {
        'CLEAR': _clear, 'FolderByTime': _folder_by_time, 'TableByTime': _table_by_time}
    if kind not in readers and READERS.get_own(kind) is not None:
        split = dict(seed=0) | {key: options.pop(key) for key in ('seed', 'shot', 'test_ratio') if key in options}
        return read_stream_of(options | dict(type=kind), SplitOptions('iid', **split))
    if kind not in readers:
        known = sorted({*readers, *READERS.known_names()})
        near = nearest(kind, known)
        raise ConfigError(f"data.type is '{kind}'{f', nearest: {near}' if near else ''}. Known: {', '.join(known)}.")
    check_keys('data', options, accepted_arguments(readers[kind]), kind)
    try:
        return readers[kind](**options)
    except TypeError as error:
        raise ConfigError(f'data of type {kind}: {error}') from error


def _clear(data_root: str, data_name: str | None = None, seed: int = 0, shot: int | None = None, layout: str = 'auto'):
    data = read_clear(data_root, data_name=data_name, seed=seed, shot=shot, layout=layout)
    return data, read_images(dict(type='CLEAR', data_root=str(data.root), layout=data.layout))


def _folder_by_time(data_root: str, times: list[str] | None = None, seed: int = 0, shot: int | None = None,
                    test_ratio: float = 0.3, part_folders: bool | None = None):
    data = read_folder_by_time(data_root, SplitOptions('iid', seed, shot, test_ratio, part_folders), times)
    return data, all_images(data).of_kind('FolderByTime')


def _table_by_time(table: str, data_root: str | None = None, num_buckets: int | None = None,
                   edges: list | None = None, freq: str | None = None, equal: str = 'count',
                   path_column: str = 'path', label_column: str = 'label', time_column: str = 'timestamp',
                   missing: str = 'refuse', seed: int = 0, shot: int | None = None, test_ratio: float = 0.3):
    data = read_table_by_time(table, Periods(num_buckets, edges, freq, equal),
                              SplitOptions('iid', seed, shot, test_ratio),
                              Columns(path_column, label_column, time_column), root=data_root, missing=missing)
    return data, all_images(data).of_kind('TableByTime')


def choose_buckets(data: ClearData, names: Sequence[object] | None) -> list[int]:
    """Places in the stream of the buckets that are asked for, in the order of the stream; None = all.

    Raises:
        DataError: naming a bucket that the stream does not have.
    """
    known = [bucket.name for bucket in data.train]
    if names is None:
        return list(range(len(known)))
    wanted = [str(name) for name in names]
    absent = [name for name in wanted if name not in known]
    if absent or not wanted:
        raise DataError(f"{data.root} has no bucket {', '.join(map(repr, absent)) or 'in an empty list'}; it has "
                        f"{', '.join(known)}.")
    return [place for place, name in enumerate(known) if name in wanted]
