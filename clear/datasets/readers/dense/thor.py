"""Depth in rooms of AI2-THOR (Kolve et al. 2017), as the probing suite has rendered it.

::

    <root>/{train,test}/<scene>/<name>rgb.jpg
    <root>/{train,test}/<scene>/<name>depth.jpg     grey of 8 bits, stored with loss
"""

from __future__ import annotations

from clear.core.checks import check_choice, check_flag
from clear.datasets.dense.decoders import GreyLevels
from clear.datasets.dense.targets import DenseTable
from clear.datasets.readers.dense.matching import paired_table, targets_of
from clear.datasets.readers.image_files import existing_folder, image_files
from clear.registry import READERS

_IMAGE, _DEPTH = 'rgb.jpg', 'depth.jpg'


@READERS.register_module(name='ThorDepth')
def thor_depth(root: str, split: str, legacy: bool = False) -> DenseTable:
    """Depth as a share of what white stands for, which nobody has published: no metres. Black does not count.

    Args:
        split: 'train' or 'test'.
        legacy: the scale of the earlier system, `(grey - 0.5) / 0.25`, in which every pixel counts. It goes below 0,
            where ratios mean nothing, so the table is of kind 'edges': its L1 is what was published.

    Raises:
        ConfigError: for another split.
        DataError: if a folder or the depth of an image is missing.
    """
    check_choice('split', split, ('train', 'test'))
    check_flag('legacy', legacy)
    base = existing_folder(root)
    existing_folder(base / split)
    files = image_files(base, split)
    images = [path for path in files if path.endswith(_IMAGE)]
    targets = targets_of(base, split, images, [path for path in files if path.endswith(_DEPTH)],
                         lambda path: path.removesuffix(_IMAGE).removesuffix(_DEPTH))
    decode = GreyLevels(0.5, 0.25) if legacy else GreyLevels(positive=True)
    return paired_table(base, split, images, targets, 'edges' if legacy else 'depth', decode)
