"""PASCAL VOC's segmentation task (Everingham et al. 2010): VOC 2012, or any year.

::

    VOC2012/ImageSets/Segmentation/{train,val,trainval}.txt     one image id per line
    VOC2012/SegmentationClass/<id>.png                          a palette: 0 background, 1 ... 20, 255 void
    VOC2012/JPEGImages/<id>.jpg
"""

from __future__ import annotations

from pathlib import Path

from clear.core.checks import check_text
from clear.core.errors import DataError
from clear.core.files import inside
from clear.datasets.dense.decoders import ClassIds
from clear.datasets.dense.targets import DenseTable
from clear.datasets.readers.dense.matching import check_there, paired_table
from clear.datasets.readers.image_files import check_there as check_images
from clear.datasets.readers.image_files import existing_folder
from clear.datasets.readers.voc import VOC_CLASSES, read_ids
from clear.registry import READERS


@READERS.register_module(name='VOCSegmentation')
def voc_segmentation(root: str, split: str, labels: str = 'SegmentationClass') -> DenseTable:
    """The background and VOC's twenty classes. Borders and difficult objects (255) are void.

    Args:
        root: `VOC2012` or another year, or the folder of `VOC2012` or `VOCdevkit`.
        split: the name of a list: 'train', 'val', 'trainval', or one of your own, such as 'trainaug'.
        labels: the folder of the labels; that of Hariharan et al. 2011 is mostly called 'SegmentationClassAug'.

    Raises:
        DataError: if there is no such list, or an image of it or its labels are missing.
    """
    base = _find(existing_folder(root))
    lists = base / 'ImageSets' / 'Segmentation'
    file = inside(lists, f'{check_text("split", split)}.txt')
    if not file.is_file():
        raise DataError(f"{lists} has no list '{split}'; there are "
                        f'{", ".join(sorted(path.stem for path in lists.glob("*.txt"))) or "none"}.')
    existing_folder(inside(base, check_text('labels', labels)))
    ids = read_ids(file, split)
    images, targets = [f'JPEGImages/{name}.jpg' for name in ids], [f'{labels}/{name}.png' for name in ids]
    check_images(images, base, file)
    check_there(base, split, images, targets)
    return paired_table(base, split, images, targets, 'classes', ClassIds.of({place: place for place in range(21)}),
                        ('background', *VOC_CLASSES))


def _find(root: Path) -> Path:
    for folder in (root, root / 'VOC2012', root / 'VOCdevkit' / 'VOC2012'):
        if (folder / 'ImageSets' / 'Segmentation').is_dir():
            return folder
    raise DataError(f'{root} holds no VOC 2012: expected VOCdevkit/VOC2012 with ImageSets/Segmentation, '
                    'SegmentationClass and JPEGImages.')
