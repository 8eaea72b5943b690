"""KITTI 2015 (Menze and Geiger 2015): two frames of a drive, and how far every point moves between them.

::

    <root>/training/image_2/<scene>_{10,11}.png
    <root>/training/flow_occ/<scene>_10.png         RGB of 16 bits
    <root>/training/viz_flow_occ/<scene>_10.png     a picture of that, for `legacy`
"""

from __future__ import annotations

from clear.core.checks import check_choice, check_flag
from clear.core.errors import DataError
from clear.datasets.dense.decoders import GreyLevels, KittiFlow
from clear.datasets.dense.targets import DenseTable
from clear.datasets.readers.dense.matching import check_there, stem
from clear.datasets.readers.image_files import existing_folder, first_missing, image_files
from clear.registry import READERS

FRAMES = ('10', '11')
_TENTHS = 9  # of the scenes are for training


@READERS.register_module(name='KITTIFlow')
def kitti_flow(root: str, split: str, legacy: bool = False) -> DenseTable:
    """Pairs of frames with the optical flow from the first to the second, in pixels of the frames as they are.

    Two rows follow each other for a pair, with its name in column `clip`; the first has the target. The first nine
    tenths of the 200 scenes, in the order of their names, are for training. The benchmark keeps the flow of its own
    test part, so the last tenth takes its place.

    Args:
        split: 'train' or 'test'.
        legacy: the target of the earlier system, which predicts the luminance (0 ... 1) of KITTI's colour picture of
            the flow. Black does not count.

    Raises:
        ConfigError: for another split.
        DataError: if a folder, a frame or the flow of a pair is missing, naming it.
    """
    check_choice('split', split, ('train', 'test'))
    folder = 'training/viz_flow_occ' if check_flag('legacy', legacy) else 'training/flow_occ'
    base = existing_folder(root)
    for part in ('training/image_2', folder):
        existing_folder(base / part)
    names = (stem(path) for path in image_files(base, 'training/image_2'))
    scenes = sorted({name[:-3] for name in names if name.endswith(tuple(f'_{frame}' for frame in FRAMES))})
    train = len(scenes) * _TENTHS // 10
    scenes = scenes[:train] if split == 'train' else scenes[train:]
    paths = [f'training/image_2/{scene}_{frame}.png' for scene in scenes for frame in FRAMES]
    if (row := first_missing(base, paths)) is not None:
        raise DataError(f"{base}: scene '{scenes[row // 2]}' lacks a frame: there is no '{paths[row]}'.")
    targets = [f'{folder}/{scene}_{FRAMES[0]}.png' for scene in scenes]
    check_there(base, split, paths[::2], targets)
    columns = dict(path=paths, mask=[path for target in targets for path in (target, None)],
                   clip=[scene for scene in scenes for _ in FRAMES], split=[split] * len(paths))
    return DenseTable.from_columns(base, columns, target_kind='luminance' if legacy else 'flow',
                                   decode=GreyLevels(positive=True) if legacy else KittiFlow())
