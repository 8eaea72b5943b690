"""Taskonomy (Zamir et al. 2018) in the layout of the probing suite: rooms with their depth and their edges.

::

    <root>/{train,test}/rgb/<building>/<name>.png
    <root>/{train,test}/depth_zbuffer/<building>/<name>.png     16 bits, 512 to a metre, 65535 = unknown
    <root>/{train,test}/edges/<building>/<name>.png             grey of 8 or 16 bits

A name may end in `_domain_rgb`, `_domain_depth_zbuffer` and so on, as the official files' do.
"""

from __future__ import annotations

from clear.core.checks import check_flag
from clear.datasets.dense.decoders import GreyLevels, RelativeDepth, WholeDepth
from clear.datasets.dense.targets import DenseTable
from clear.datasets.readers.dense.matching import paired_folders
from clear.registry import READERS

PER_METRE, UNKNOWN = 512, 65535
_MOST_EARLIER = 10_000


@READERS.register_module(name='TaskonomyDepth')
def taskonomy_depth(root: str, split: str, legacy: bool = False) -> DenseTable:
    """Depth in metres along the optical axis. Where it is unknown, and at 0, it does not count.

    Args:
        split: 'train' or 'test'.
        legacy: the target of the earlier system: at most 10,000 of the stored numbers (19.5 m), divided by the largest
            of the image, less the smallest share; every pixel counts. It is no depth, so the table is of kind 'edges':
            its L1 is what was published, but that the original took both from the resized image.

    Raises:
        ConfigError: for another split.
        DataError: if a folder or the depth of an image is missing.
    """
    if check_flag('legacy', legacy):
        return paired_folders(root, split, ('rgb', 'depth_zbuffer'), _view, 'edges', RelativeDepth(_MOST_EARLIER))
    return paired_folders(root, split, ('rgb', 'depth_zbuffer'), _view, 'depth', WholeDepth(PER_METRE, UNKNOWN))


@READERS.register_module(name='TaskonomyEdges')
def taskonomy_edges(root: str, split: str) -> DenseTable:
    """How much of an edge every pixel is, from 0 to 1 of what the file can hold. All pixels count.

    Args:
        split: 'train' or 'test'.

    Raises:
        ConfigError: for another split.
        DataError: if a folder or the edges of an image are missing.
    """
    return paired_folders(root, split, ('rgb', 'edges'), _view, 'edges', GreyLevels())


def _view(path: str) -> str:
    """`<building>/<name>` without the domain."""
    return path.split('/', 2)[2].rpartition('.')[0].partition('_domain_')[0]
