"""NYU Depth v2 (Silberman et al. 2012) in the layout of the probing suite: rooms with their depth, and where to walk.

::

    <root>/{train,test}/images/<name>.png
    <root>/{train,test}/depths/<name>.tiff      metres, floats
    <root>/{train,test}/walkable/<name>.png     not 0: one can walk there
"""

from __future__ import annotations

from clear.datasets.dense.decoders import FloatDepth, NonZero
from clear.datasets.dense.targets import DenseTable
from clear.datasets.readers.dense.matching import paired_folders, stem
from clear.registry import READERS

MOST_METRES = 10.0


@READERS.register_module(name='NYUDepth')
def nyu_depth(root: str, split: str) -> DenseTable:
    """Depth in metres. What is finite, above 0 and at most 10 m counts, as is usual for this data set.

    Args:
        split: 'train' or 'test'.

    Raises:
        ConfigError: for another split.
        DataError: if a folder or the depth of an image is missing.
    """
    return paired_folders(root, split, ('images', 'depths'), stem, 'depth', FloatDepth(MOST_METRES))


@READERS.register_module(name='NYUWalkable')
def nyu_walkable(root: str, split: str) -> DenseTable:
    """Where one can walk: every pixel of the mask that is not 0. All pixels count.

    Args:
        split: 'train' or 'test'.

    Raises:
        ConfigError: for another split.
        DataError: if a folder or the mask of an image is missing.
    """
    return paired_folders(root, split, ('images', 'walkable'), stem, 'mask', NonZero())
