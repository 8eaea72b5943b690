"""ADE20K as in the scene parsing challenge (Zhou et al. 2017): 150 classes.

::

    <root>/images/{training,validation}/<name>.jpg
    <root>/annotations/{training,validation}/<name>.png     0 = none of the classes, 1 ... 150
    <root>/objectInfo150.txt                                their names
"""

from __future__ import annotations

from pathlib import Path

from clear.core.checks import check_choice, check_flag
from clear.core.errors import DataError
from clear.core.files import read_text
from clear.datasets.dense.decoders import ClassIds
from clear.datasets.dense.targets import VOID, DenseTable
from clear.datasets.readers.dense.matching import paired_table, stem, targets_of
from clear.datasets.readers.image_files import existing_folder, image_files
from clear.datasets.readers.labels import unique_names
from clear.registry import READERS

NUM_CLASSES = 150
FOLDERS = {'train': 'training', 'val': 'validation'}


@READERS.register_module(name='ADE20K')
def ade20k(root: str, split: str, reduce_zero_label: bool = True) -> DenseTable:
    """The 150 classes of the challenge, called as in `objectInfo150.txt`, or by their numbers where that is missing.

    Args:
        root: `ADEChallengeData2016`.
        split: 'train' or 'val'.
        reduce_zero_label: 0 is void, and 1 ... 150 become 0 ... 149, as all published figures have it. Without, 0 is
            a class ('other') of its own, and there are 151. That is another task than to ignore class 0 of 151: with a
            void, class 0 is the first of the challenge's, and what is falsely predicted as such counts against it.

    Raises:
        ConfigError: for another split.
        DataError: if a folder or the labels of an image are missing, or the file of names is none.
    """
    check_choice('split', split, FOLDERS)
    check_flag('reduce_zero_label', reduce_zero_label)
    base = existing_folder(root)
    parts = f'images/{FOLDERS[split]}', f'annotations/{FOLDERS[split]}'
    for part in parts:
        existing_folder(base / part)
    images, labels = (image_files(base, part) for part in parts)
    targets = targets_of(base, split, images, labels, stem)
    first = 0 if reduce_zero_label else 1
    ids = {label: label - 1 + first for label in range(1, NUM_CLASSES + 1)} | {0: VOID if reduce_zero_label else 0}
    names = (*(() if reduce_zero_label else ('other',)), *_names(base / 'objectInfo150.txt'))
    return paired_table(base, split, images, targets, 'classes', ClassIds.of(ids), names)


def _names(file: Path) -> list[str]:
    if not file.exists():
        return [str(label) for label in range(1, NUM_CLASSES + 1)]
    rows = [line.split('\t') for line in read_text(file).split('\n')[1:] if line.strip()]
    if [row[0].strip() for row in rows] != [str(label) for label in range(1, NUM_CLASSES + 1)]:
        raise DataError(f'{file} should have a line of headings and then {NUM_CLASSES} lines that begin with 1 ... '
                        f'{NUM_CLASSES} and a tab; found {len(rows)} lines.')
    return unique_names(row[-1].strip() for row in rows)
