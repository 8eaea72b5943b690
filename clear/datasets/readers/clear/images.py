"""All images of a CLEAR tree as one table."""

from __future__ import annotations

import numpy as np

from clear.datasets.columns import runs
from clear.datasets.readers.clear.clear import read_clear
from clear.datasets.table import ImageTable
from clear.registry import READERS


@READERS.register_module(name='CLEAR')
def clear_images(data_root: str, data_name: str | None = None, layout: str = 'auto') -> ImageTable:
    """All images of a CLEAR tree in either layout, bucket by bucket. Ids are the paths, as in the splits' lists."""
    data = read_clear(data_root, data_name=data_name, evaluation_protocol='streaming', seed=None, layout=layout)
    return ImageTable.from_columns(data.root, dict(
        id=[name for bucket in data.train for name in bucket.ids],
        path=[path for bucket in data.train for path in bucket.paths],
        label=np.concatenate([bucket.targets for bucket in data.train]),
        bucket=runs((bucket.name, len(bucket)) for bucket in data.train)), data.class_names)
