"""What any reader gives as a stream: its buckets, each divided into a training and a test list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from clear.core.configs.signatures import accepted_arguments, check_keys, check_kinds
from clear.core.errors import ConfigError, DataError
from clear.core.types import Options
from clear.datasets.buckets import cut_buckets
from clear.datasets.readers.build import read_images
from clear.datasets.readers.by_time import SplitOptions, all_images, divide, read_folder_by_time
from clear.datasets.readers.clear.clear import ClearData, check_disjoint
from clear.datasets.readers.table_by_time import Periods, read_table_by_time
from clear.datasets.readers.table_file import Columns
from clear.datasets.table import ImageTable
from clear.registry import READERS


def read_stream_of(cfg: Options, options: SplitOptions, where: str = 'data') -> tuple[ClearData, ImageTable]:
    """The stream of a reader's images, and all of them as the reader gives them: the source of banks.

    Buckets come in the order in which they first occur, images in that of the reader, or as `DIVIDED` has them.

    Raises:
        ConfigError: for an unknown type or key, or options that do not go together.
        DataError: if the reader gives no buckets or no labels, or not for every image, or a bucket cannot be divided.
    """
    options.check()
    if cfg.get('type') in DIVIDED:
        return _read_divided(cfg['type'], {key: value for key, value in cfg.items() if key != 'type'}, options, where)
    images = read_images(cfg, where)
    for column, what in (('bucket', 'buckets, so they are no stream'), ('label', 'labels, so nothing can be learned')):
        if column not in images:
            raise DataError(f'{where}: the images of type {images.kind} have no {what}.')
    labels, ordered = images.label_array(), images.in_buckets()
    for what, count in (('label', (labels < 0).sum()), ('bucket', images['bucket'].null_count)):
        if count:
            raise DataError(f'{images.root}: {count} of {len(images)} images have no {what}; a stream needs one of '
                            'each.')
    table, rows = ordered
    sizes = [(name, len(each)) for name, each in rows.items()]
    check_disjoint(cut_buckets(table, sizes), images.root)  # in whatever spelling
    return divide(images.kind, table, sizes, options), images


def _read_divided(kind: str, arguments: Options, options: SplitOptions, where: str) -> tuple[ClearData, ImageTable]:
    check_keys(where, arguments, accepted_arguments(READERS.require(kind)), kind)
    check_kinds(where, arguments, READERS.require(kind))
    try:
        data = DIVIDED[kind](options, **arguments)
    except TypeError as error:
        raise ConfigError(f'{where} of type {kind}: {error}') from error
    return data, all_images(data).of_kind(kind)


def _folder_by_time(options: SplitOptions, data_root: str, times: Sequence[str] | None = None,
                    part_folders: bool | None = None) -> ClearData:
    return read_folder_by_time(data_root, replace(options, part_folders=part_folders), times)


def _table_by_time(options: SplitOptions, table: str, data_root: str | None = None, missing: str = 'refuse',
                   path_column: str = 'path', label_column: str = 'label', time_column: str = 'timestamp',
                   **periods: object) -> ClearData:
    return read_table_by_time(table, Periods(**periods), options, Columns(path_column, label_column, time_column),
                              root=data_root, missing=missing)


# Readers whose folders may hold a division of their own, or whose images are divided in the order of time, while banks
# hold them in that of their ids. They take the arguments of the reader.
DIVIDED: dict[str, Callable[..., ClearData]] = {'FolderByTime': _folder_by_time, 'TableByTime': _table_by_time}
