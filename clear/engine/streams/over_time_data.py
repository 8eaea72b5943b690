"""The stream on which a representation is measured: lists of its buckets, and all its images as a source of banks."""

from __future__ import annotations

from collections.abc import Sequence

from clear.core.checks import check_text
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError, DataError
from clear.datasets import ClearData, ImageTable, read_clear, read_images
from clear.datasets.readers.by_time import SplitOptions
from clear.datasets.streams import read_stream_of


def read_stream(cfg: dict) -> tuple[ClearData, ImageTable]:
    """The buckets with their train and test lists, and all their images as the source of banks.

    Raises:
        ConfigError: for an unknown type or key.
        DataError: if the data are missing or wrong.
    """
    options = dict(cfg)
    check_text('data.type', options.get('type'))
    split = {key: options.pop(key) for key in ('seed', 'shot', 'test_ratio') if key in options}
    if options['type'] != 'CLEAR':
        return read_stream_of(options, SplitOptions('iid', **dict(seed=0) | split))
    # Its splits are on disk.
    del options['type']
    check_keys('data', options | split, accepted_arguments(_clear), 'CLEAR')
    try:
        return _clear(**options, **split)
    except TypeError as error:
        raise ConfigError(f'data of type CLEAR: {error}') from error


def _clear(data_root: str, data_name: str | None = None, seed: int = 0, shot: int | None = None, layout: str = 'auto'):
    data = read_clear(data_root, data_name=data_name, seed=seed, shot=shot, layout=layout)
    return data, read_images(dict(type='CLEAR', data_root=str(data.root), layout=data.layout))


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
