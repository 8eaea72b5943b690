"""COCO's panoptic annotations (Kirillov et al. 2019) as classes of pixels, in the layout of the probing suite.

::

    <root>/{train,val}2017/<name>.jpg
    <root>/annotations/panoptic_labels_{train,val}2017/<name>.png       one channel: category ids 0 ... 200

The official `panoptic_*2017` files hold segments in colours. `make_virb_data.py` turns them into ids of categories,
through their JSON.
"""

from __future__ import annotations

from clear.core.checks import check_choice
from clear.datasets.dense.decoders import ClassIds
from clear.datasets.dense.targets import VOID, DenseTable
from clear.datasets.readers.dense.matching import paired_table, stem, targets_of
from clear.datasets.readers.image_files import existing_folder, image_files
from clear.registry import READERS

MOST_CATEGORY_ID = 200


@READERS.register_module(name='CocoPanoptic')
def coco_panoptic(root: str, split: str) -> DenseTable:
    """The category of every pixel. 0, where nothing is annotated, is void.

    A class is called by COCO's id of its category, and is at that place, so there are 201 classes, as the probing suite
    has it: 133 of them occur. One that does not, but is predicted for a pixel that counts, has an IoU of 0.

    Args:
        split: 'train' or 'val'.

    Raises:
        ConfigError: for another split.
        DataError: if a folder or the labels of an image are missing.
    """
    check_choice('split', split, ('train', 'val'))
    base = existing_folder(root)
    parts = f'{split}2017', f'annotations/panoptic_labels_{split}2017'
    for part in parts:
        existing_folder(base / part)
    images, labels = (image_files(base, part) for part in parts)
    targets = targets_of(base, images, labels, stem)
    ids = {category: category for category in range(1, MOST_CATEGORY_ID + 1)} | {0: VOID}
    names = ('void', *map(str, range(1, MOST_CATEGORY_ID + 1)))
    return paired_table(base, split, images, targets, 'classes', ClassIds.of(ids), names)
