"""Images that are their own targets: what is hidden of them should be found again."""

from __future__ import annotations

from clear.core.checks import check_text
from clear.core.errors import DataError
from clear.core.files import inside
from clear.datasets.dense.decoders import SameImage
from clear.datasets.dense.targets import DenseTable
from clear.datasets.readers.dense.matching import paired_table
from clear.datasets.readers.image_files import existing_folder, image_files
from clear.registry import READERS


@READERS.register_module(name='Inpainting')
def inpainting(root: str, split: str, folder: str = 'rgb') -> DenseTable:
    """All images below `<root>/<split>/<folder>`, whatever the depth. Which part is hidden, the task decides.

    Args:
        split: a folder, such as 'train' or 'test'.
        folder: one below it; '' takes all of the split.

    Raises:
        DataError: if the folder does not exist or holds no images.
    """
    base = existing_folder(root)
    place = inside(base, f'{check_text("split", split)}/{folder}')
    existing_folder(place)
    images = image_files(base, place.relative_to(base).as_posix())
    if not images:
        raise DataError(f'{place}: no images.')
    return paired_table(base, split, images, images, 'image', SameImage())
