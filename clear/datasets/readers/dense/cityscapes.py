"""Cityscapes (Cordts et al. 2016): streets, with the fine annotations.

::

    <root>/leftImg8bit/{train,val}/<city>/<name>_leftImg8bit.png
    <root>/gtFine/{train,val}/<city>/<name>_gtFine_labelIds.png
"""

from __future__ import annotations

from clear.core.checks import check_choice, check_flag
from clear.datasets.dense.decoders import ClassIds
from clear.datasets.dense.targets import VOID, DenseTable
from clear.datasets.readers.dense.matching import paired_table, targets_of
from clear.datasets.readers.image_files import existing_folder, image_files
from clear.registry import READERS

# The label ids that are evaluated, in the order of the benchmark's train ids, and their names.
CITYSCAPES_CLASSES = {
    7: 'road', 8: 'sidewalk', 11: 'building', 12: 'wall', 13: 'fence', 17: 'pole', 19: 'traffic light',
    20: 'traffic sign', 21: 'vegetation', 22: 'terrain', 23: 'sky', 24: 'person', 25: 'rider', 26: 'car', 27: 'truck',
    28: 'bus', 31: 'train', 32: 'motorcycle', 33: 'bicycle'}
MOST_LABEL_ID = 33
_IMAGE, _LABELS = '_leftImg8bit', '_gtFine_labelIds'


@READERS.register_module(name='Cityscapes')
def cityscapes(root: str, split: str, legacy: bool = False) -> DenseTable:
    """The 19 classes that the benchmark evaluates; everything else is void. The labels of its test part are secret.

    Args:
        split: 'train' or 'val'.
        legacy: the 20 classes of the earlier system: 0 is everything else, which is trained and counts as a class, and
            the others follow one later.

    Raises:
        ConfigError: for another split.
        DataError: if a folder or the labels of an image are missing.
    """
    check_choice('split', split, ('train', 'val'))
    check_flag('legacy', legacy)
    base = existing_folder(root)
    for part in ('leftImg8bit', 'gtFine'):
        existing_folder(base / part / split)
    images = image_files(base, f'leftImg8bit/{split}')
    labels = [path for path in image_files(base, f'gtFine/{split}') if path.endswith(f'{_LABELS}.png')]
    targets = targets_of(base, split, images, labels, _street)
    names = (*(('void',) if legacy else ()), *CITYSCAPES_CLASSES.values())
    return paired_table(base, split, images, targets, 'classes', ClassIds.of(cityscapes_ids(legacy)), names)


def cityscapes_ids(legacy: bool = False) -> dict[int, int]:
    """Label id to class. The licence plate, whose id is -1, is 255 where a file has it at all."""
    ids = dict.fromkeys((*range(MOST_LABEL_ID + 1), 255), 0 if legacy else VOID)
    return ids | {label: place for place, label in enumerate(CITYSCAPES_CLASSES, start=int(legacy))}


def _street(path: str) -> str:
    """`<split>/<city>/<name>` of an image or its labels."""
    return path.partition('/')[2].rpartition('.')[0].removesuffix(_IMAGE).removesuffix(_LABELS)
