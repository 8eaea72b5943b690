"""What any reader gives as a stream: its buckets, each divided into a training and a test list."""

from __future__ import annotations

from clear.core.errors import DataError
from clear.core.types import Options
from clear.datasets.buckets import cut_buckets
from clear.datasets.readers.build import read_images
from clear.datasets.readers.by_time import SplitOptions, divide
from clear.datasets.readers.clear.clear import ClearData, check_disjoint
from clear.datasets.table import ImageTable


def read_stream_of(cfg: Options, options: SplitOptions, where: str = 'data') -> tuple[ClearData, ImageTable]:
    """The stream of a reader's images, and all of them as the reader gives them: the source of banks.

    Buckets come in the order in which they first occur, images in that of the reader.

    Raises:
        ConfigError: for an unknown type or key, or options that do not go together.
        DataError: if the reader gives no buckets or no labels, or not for every image, or a bucket cannot be divided.
    """
    options.check()
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
