"""From `dict(type=READER, ...)` to a table of images, for banks, probes, pretraining and streams alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.configs.signatures import accepted_arguments, check_keys, check_kinds
from clear.core.errors import ConfigError, DataError, nearest
from clear.datasets.readers.bucket_lists import is_clear_tree
from clear.datasets.readers.table_file import TABLE_SUFFIXES
from clear.datasets.table import ImageTable
from clear.registry import READERS

if TYPE_CHECKING:
    from clear.core.types import Options


def read_images(cfg: Options | ImageTable, where: str = 'data') -> ImageTable:
    """The images of `dict(type=READER, ...)`, READER a name of `READERS`; at least one. A table is given back.

    Args:
        where: what messages call the config.

    Raises:
        ConfigError: for an unknown type or key, or a reader that gives no table.
        DataError: if the data are missing or wrong.
    """
    if isinstance(cfg, ImageTable):
        return cfg
    if not isinstance(cfg, Mapping):
        raise ConfigError(f'{where} is {cfg!r}; expected dict(type=...).')
    options = dict(cfg)
    kind = options.pop('type', None)
    reader = READERS.get_own(kind) if isinstance(kind, str) else None
    if reader is None:
        raise ConfigError(f'{where}.type is {kind!r}{_nearest(str(kind), READERS.known_names())}.')
    check_keys(where, options, accepted_arguments(reader), kind)
    check_kinds(where, options, reader)
    try:
        images = reader(**options)
    except TypeError as error:
        raise ConfigError(f'{where} of type {kind}: {error}') from error
    if not isinstance(images, ImageTable):
        raise ConfigError(f'{where} of type {kind}: the reader gives {type(images).__name__}, expected an ImageTable.')
    if not len(images):
        raise DataError(f'{images.root}: no images.')
    return images.of_kind(kind)


def _nearest(kind: str, known: Iterable[str]) -> str:
    near = nearest(kind, known)
    return f'{f", nearest: {near}" if near else ""}. Known: {", ".join(sorted(known))}'


def guess_reader(path: str | Path) -> dict[str, object]:
    """The config of the reader for what a path looks like: a CLEAR tree, an image folder, a list or a table.

    Raises:
        DataError: if it is none of them.
    """
    path = Path(path)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return dict(type='Table', path=str(path))
    if path.suffix.lower() == '.txt':
        return dict(type='FileList', path=str(path))
    if not path.is_dir():
        raise DataError(f'{path} is no folder, list (.txt) or table ({", ".join(TABLE_SUFFIXES)}) of images.')
    return dict(type='CLEAR', data_root=str(path)) if is_clear_tree(path) else \
        dict(type='ImageFolder', root=str(path))
