"""All images of a CLEAR tree as one table."""

from __future__ import annotations

from clear.datasets.readers.clear.clear import read_clear
from clear.datasets.table import ImageTable
from clear.registry import READERS


@READERS.register_module(name='CLEAR')
def clear_images(data_root: str, data_name: str | None = None, layout: str = 'auto') -> ImageTable:
    """All images of a CLEAR tree in either layout, bucket by bucket. Ids are the paths, as in the splits' lists."""
    return read_clear(data_root, data_name=data_name, evaluation_protocol='streaming', seed=None, layout=layout).images
